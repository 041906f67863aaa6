/** Which run and which map is shown, and how it is drawn. */

import { app } from "./app";
import { FIT } from "./drawing";
import { Pick, Push, Slide, Tick } from "./parts";
import { CHANNEL, type Session, type Shown, type ShownMap } from "./session";
import { BEST, type Choices } from "./store";

const { React } = app;

const MODES = [
  { name: "overlay", label: "over the image" },
  { name: "side", label: "beside the image" },
  { name: "maps", label: "maps only" },
];

export function Toolbar(props: { session: Session; shown: Shown | null; map: ShownMap | null }) {
  const { session, shown, map } = props;
  const { opened, run, choices, two } = session.state;
  const choose = (change: Partial<Choices>) => session.dispatch({ type: "choose", change });
  const signed = choices.signed || (map?.kind.signed ?? false);
  const colors = (opened?.colors ?? []).filter((one) => one.diverging === signed);
  const color = colors.find((one) => one.name === choices.colors) ?? colors[0];
  const kinds = [{ name: BEST, label: "best available" }, ...(shown?.query.kinds ?? [])];
  const channels = choices.kind === CHANNEL && shown ? session.channels(shown.neighbor.pair) : null;
  return (
    <div className="sfam-bar" role="toolbar" aria-label="Map">
      {(opened?.runs.length ?? 0) > 1 && (
        <Pick
          label="Run"
          value={run?.key ?? null}
          options={(opened?.runs ?? []).map((name) => ({ name, label: name }))}
          onPick={(name) => void session.open(name ?? undefined)}
        />
      )}
      {two && opened && (
        <Pick
          label="Model"
          value={two.model}
          options={opened.models}
          none="of the run"
          onPick={(model) => void session.explain(two.samples, model)}
        />
      )}
      <Pick
        label="Map"
        value={choices.kind}
        options={kinds}
        onPick={(kind) => choose({ kind: kind ?? BEST })}
      />
      {channels && (
        <Pick
          label="Channel"
          value={choices.channel === null ? null : String(choices.channel)}
          options={channels.channels.map(({ channel }) => ({
            name: String(channel),
            label: String(channel),
          }))}
          none="choose"
          onPick={(channel) => choose({ channel: channel === null ? null : Number(channel) })}
        />
      )}
      <Pick
        label="Colors"
        value={color?.name ?? null}
        options={colors}
        onPick={(name) => choose({ colors: name ?? "" })}
      />
      <Pick
        label="Shown"
        value={choices.mode}
        options={MODES}
        onPick={(mode) => choose({ mode: mode as Choices["mode"] })}
      />
      <Slide label="Opacity" value={choices.opacity} onSlide={(opacity) => choose({ opacity })} />
      <Slide
        label="Threshold"
        value={choices.threshold}
        onSlide={(threshold) => choose({ threshold })}
      />
      <Tick label="Signed" on={signed} onTick={(on) => choose({ signed: on })} />
      <Tick label="Smooth" on={choices.smooth} onTick={(smooth) => choose({ smooth })} />
      <Tick label="Loupe" on={choices.loupe} onTick={(loupe) => choose({ loupe })} />
      <Tick label="Swipe" on={choices.swipe} onTick={(swipe) => choose({ swipe })} />
      <Push
        label="Zoom to fit"
        onPush={() => session.dispatch({ type: "set", change: { zoom: FIT } })}
      />
      <Push
        label="Keys"
        hint="Keys (?)"
        on={session.state.help}
        onPush={() => session.run({ name: "help" })}
      />
    </div>
  );
}
