/** Which run and which map is shown, and how it is drawn. */

// biome-ignore lint/correctness/noUnusedImports: JSX is made of it
import { React } from "./app";
import { FIT } from "./geometry";
import { pick, push, slide, tick } from "./parts";
import { CHANNEL, type Session, type Shown, type ShownMap } from "./session";
import { BEST, type Choices, type State } from "./store";

const MODES = [
  { name: "overlay", label: "over the image" },
  { name: "side", label: "beside the image" },
  { name: "maps", label: "maps only" },
];

/** Return the color maps that fit a map, and the chosen one. */
export function colorsOf({ opened, choices }: State, map: ShownMap) {
  const signed = choices.signed || (map?.kind.signed ?? false);
  const colors = (opened?.colors ?? []).filter((one) => one.diverging === signed);
  return { signed, colors, color: colors.find((one) => one.name === choices.colors) ?? colors[0] };
}

export function toolbar(session: Session, shown: Shown | null, map: ShownMap) {
  const { opened, run, choices, two } = session.state;
  const { signed, colors, color } = colorsOf(session.state, map);
  const runs = (opened?.runs ?? []).map((name) => ({ name, label: name }));
  const kinds = [{ name: BEST, label: "best available" }, ...(shown?.query.kinds ?? [])];
  const known = choices.kind === CHANNEL && shown ? session.channels(shown.neighbor.pair) : null;
  const channels = known?.channels.map(({ channel, value }) => {
    return { name: String(channel), label: `${channel} (${value.toFixed(3)})` };
  });
  const models = opened?.models ?? [];
  const explain = (model: string | null) => two && session.explain(two.samples, model);
  const set = (name: keyof Choices) => (value: unknown) => session.choose({ [name]: value });
  return (
    <div className="sfam-tools" role="toolbar" aria-label="How maps are drawn">
      {runs.length > 1 && pick("Run", run?.key, runs, (name) => session.open(name ?? ""))}
      {two && pick("Model", two.model, models, explain, run ? "of the run" : "choose")}
      {pick("Map", choices.kind, kinds, set("kind"))}
      {channels && pick("Channel", choices.channel, channels, set("channel"), "most important")}
      {pick("Colors", color?.name, colors, set("colors"))}
      {pick("Shown", choices.mode, MODES, set("mode"))}
      {slide("Opacity", choices.opacity, set("opacity"))}
      {slide("Threshold", choices.threshold, set("threshold"))}
      {tick("Signed", signed, set("signed"))}
      {tick("Smooth", choices.smooth, set("smooth"))}
      {tick("Loupe", choices.loupe, set("loupe"))}
      {tick("Swipe", choices.swipe, set("swipe"))}
      {tick("On the strip", choices.strip, set("strip"))}
      {push("Zoom to fit", () => session.set({ zoom: FIT }))}
      {push("Keys", () => session.set({ help: !session.state.help }), { hint: "Keys (?)" })}
    </div>
  );
}
