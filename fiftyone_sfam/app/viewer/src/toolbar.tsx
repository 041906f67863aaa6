/** Which run and which map is shown, and how it is drawn. */

import { app } from "./app";
import { FIT, type Look } from "./drawing";
import { pick, push, slide, tick } from "./parts";
import { CHANNEL, type Session, type Shown, type ShownMap } from "./session";
import { BEST, type State } from "./store";

// biome-ignore lint/correctness/noUnusedVariables: JSX is made of it
const { React } = app;

const MODES = [
  { name: "overlay", label: "over the image" },
  { name: "side", label: "beside the image" },
  { name: "maps", label: "maps only" },
];

/** Return the color maps that fit a map, and the chosen one. */
export function colorsOf({ opened, choices }: State, map: ShownMap | null) {
  const signed = choices.signed || (map?.kind.signed ?? false);
  const colors = (opened?.colors ?? []).filter((one) => one.diverging === signed);
  return { signed, colors, color: colors.find((one) => one.name === choices.colors) ?? colors[0] };
}

export function toolbar(session: Session, shown: Shown | null, map: ShownMap | null) {
  const { opened, run, choices, two } = session.state;
  const { signed, colors, color } = colorsOf(session.state, map);
  const runs = (opened?.runs ?? []).map((name) => ({ name, label: name }));
  const kinds = [{ name: BEST, label: "best available" }, ...(shown?.query.kinds ?? [])];
  const known = choices.kind === CHANNEL && shown ? session.channels(shown.neighbor.pair) : null;
  const channels = (known?.channels ?? []).map(({ channel, value }) => {
    return { name: String(channel), label: `${channel} (${value.toFixed(3)})` };
  });
  const number = (name: string | null) => (name === null ? null : Number(name));
  return (
    <div className="sfam-tools" role="toolbar" aria-label="How maps are drawn">
      {runs.length > 1 && pick("Run", run?.key, runs, (name) => session.open(name ?? ""))}
      {two &&
        pick(
          "Model",
          two.model,
          opened?.models ?? [],
          (model) => session.explain(two.samples, model),
          run ? "of the run" : "choose",
        )}
      {pick("Map", choices.kind, kinds, (kind) => session.choose({ kind: kind ?? BEST }))}
      {known &&
        pick(
          "Channel",
          choices.channel?.toString(),
          channels,
          (name) => session.choose({ channel: number(name) }),
          "most important",
        )}
      {pick("Colors", color?.name, colors, (name) => session.choose({ colors: name ?? "" }))}
      {pick("Shown", choices.mode, MODES, (mode) => session.choose({ mode: mode as Look["mode"] }))}
      {slide("Opacity", choices.opacity, (opacity) => session.choose({ opacity }))}
      {slide("Threshold", choices.threshold, (threshold) => session.choose({ threshold }))}
      {tick("Signed", signed, (on) => session.choose({ signed: on }))}
      {tick("Smooth", choices.smooth, (smooth) => session.choose({ smooth }))}
      {tick("Loupe", choices.loupe, (loupe) => session.choose({ loupe }))}
      {tick("Swipe", choices.swipe, (swipe) => session.choose({ swipe }))}
      {push("Zoom to fit", () => session.set({ zoom: FIT }))}
      {push("Keys", () => session.set({ help: !session.state.help }), { hint: "Keys (?)" })}
    </div>
  );
}
