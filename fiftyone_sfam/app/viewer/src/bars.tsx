import { app } from "./app";
import { colorOf } from "./coloring";
import type { Look } from "./drawing";
import css from "./drawing.css";
import { HATCHED, receiptParts, ticks } from "./formats";
import type { Share } from "./types";

const { React } = app;

/** A bar of the parts of a similarity, which adds up to it. */
export function Receipt(props: { shares: Share[]; total: number }) {
  const laidOut = () => receiptParts(props.shares, props.total);
  const { parts, zero, total } = React.useMemo(laidOut, [props.shares, props.total]);
  const background = (part: { color: string; remainder: boolean }) => ({
    background: part.remainder ? HATCHED : part.color,
  });
  return (
    <div data-testid="sfam-receipt" className="sfam-bar">
      <style>{css}</style>
      <div className="sfam-parts" aria-hidden>
        {parts.map((part) => (
          <div
            key={part.name}
            title={`${part.name}: ${part.text}`}
            style={{ ...background(part), left: `${part.start}%`, width: `${part.width}%` }}
          />
        ))}
        <div className="sfam-mark" style={{ left: `${zero}%` }} />
        <div className="sfam-mark" style={{ left: `${total}%` }} />
      </div>
      <div className="sfam-labels" aria-hidden>
        <Label at={zero} text="0" />
        <Label at={total} text={props.total.toFixed(3)} />
      </div>
      <ul>
        {parts.map((part) => (
          <li key={part.name}>
            <span className="sfam-swatch" style={background(part)} />
            <bdi>{part.name}</bdi> {part.text}
          </li>
        ))}
      </ul>
    </div>
  );
}

/** A text below a place of a bar, kept inside of its ends. */
function Label(props: { at: number; text: string }) {
  const style = { left: `${props.at}%`, transform: `translateX(-${props.at}%)` };
  return <span style={style}>{props.text}</span>;
}

/** The colors of a map and what they stand for. */
export function ColorBar(props: { look: Look; unit: string }) {
  const { look, unit } = props;
  const low = look.signed ? -1 : 0;
  const stops = Array.from({ length: 65 }, (_, at) => {
    const strength = low + ((1 - low) * at) / 64;
    const alpha = Math.abs(strength) < look.threshold ? 0 : 1;
    return `rgba(${[...colorOf(strength, look), alpha].join(", ")})`;
  });
  const limit = look.limit > 0 ? look.limit : 1;
  const marks = ticks(low * limit, limit, 5).map(({ value, text }) => {
    return { at: (100 * (value / limit - low)) / (1 - low), text };
  });
  const range = `${(low * limit).toPrecision(3)} to ${limit.toPrecision(3)}`;
  return (
    <div
      data-testid="sfam-colorbar"
      className="sfam-bar"
      role="img"
      aria-label={`Colors from ${range} ${unit}`}
    >
      <style>{css}</style>
      <div
        className="sfam-gradient"
        style={{ background: `linear-gradient(90deg, ${stops.join(", ")})` }}
      >
        {marks.map(({ at }) => (
          <div key={at} style={{ left: `calc(${at}% - ${at / 100}px)` }} />
        ))}
      </div>
      <div className="sfam-labels" style={{ marginTop: 3 }}>
        {marks.map(({ at, text }) => (
          <Label key={text} at={at} text={text} />
        ))}
      </div>
      {unit}
    </div>
  );
}
