import { React } from "./app";
import { colored } from "./coloring";
import { receiptParts } from "./formats";
import type { Look } from "./geometry";
import type { Share } from "./types";

/** A bar of the parts of a similarity, which adds up to it; styled by the stage. */
export function Receipt({ shares, total }: { shares: Share[]; total: number }) {
  const { parts, zero, end } = React.useMemo(() => receiptParts(shares), [shares]);
  return (
    <div data-testid="sfam-receipt" className="sfam-receipt">
      <div className="sfam-parts" aria-hidden>
        {parts.map(({ name, text, ...style }) => (
          <div key={name} title={`${name}: ${text}`} style={style} />
        ))}
        <div className="sfam-mark" style={{ left: `${zero}%` }} />
        <div className="sfam-mark" style={{ left: `${end}%` }} />
      </div>
      <ul>
        {parts.map(({ name, text, background }) => (
          <li key={name}>
            <span className="sfam-swatch" style={{ background }} />
            <bdi>{name}</bdi> {text}
          </li>
        ))}
        <li>
          <span className="sfam-swatch sfam-total" />= {total.toFixed(3)}
        </li>
      </ul>
    </div>
  );
}

/** The colors of a map and what they stand for; styled by the stage. */
export function ColorBar({ look, unit }: { look: Look; unit: string }) {
  const high = look.limit > 0 ? look.limit : 1;
  const low = look.signed ? -high : 0;
  const values = Float32Array.from({ length: 65 }, (_, at) => low + ((high - low) * at) / 64);
  const pixels = colored(values, look, true);
  const colors = Array.from(values, (_, at) => {
    const [red, green, blue, alpha] = pixels.subarray(4 * at);
    return `rgb(${red} ${green} ${blue} / ${alpha ? 1 : 0})`;
  });
  const [first, last] = [low, high].map((value) => Number(value.toPrecision(3)));
  return (
    <div
      data-testid="sfam-colorbar"
      className="sfam-colorbar"
      role="img"
      aria-label={`Colors from ${first} to ${last} ${unit}`}
    >
      <div style={{ background: `linear-gradient(90deg, ${colors.join(", ")})` }} />
      <div className="sfam-marks">
        <span>{first}</span> {unit} <span>{last}</span>
      </div>
    </div>
  );
}
