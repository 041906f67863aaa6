import { app } from "./app";
import { colorOf } from "./coloring";
import type { Look } from "./drawing";
import { receiptParts, ticks } from "./formats";
import type { Share } from "./types";

const { React } = app;

const HATCHED = "repeating-linear-gradient(45deg, #999999 0 4px, #d0d0d0 4px 7px)";
const SMALL = { fontSize: 12, lineHeight: 1.4, fontVariantNumeric: "tabular-nums" } as const;

/** A bar of the parts of a similarity, which adds up to it. */
export function Receipt(props: { shares: Share[]; total: number }) {
  const { shares, total } = props;
  const {
    parts,
    zero,
    total: end,
  } = React.useMemo(() => receiptParts(shares, total), [shares, total]);
  const swatch = (part: { remainder: boolean; color: string }) =>
    part.remainder ? HATCHED : part.color;
  return (
    <div data-testid="sfam-receipt" style={SMALL}>
      <div aria-hidden style={{ position: "relative", height: 20, margin: "2px 1px 0" }}>
        {parts.map((part) => (
          <div
            key={part.name}
            title={`${part.name}: ${part.text}`}
            style={{
              position: "absolute",
              top: 2,
              bottom: 2,
              left: `${part.start}%`,
              width: `${part.width}%`,
              background: swatch(part),
              boxShadow: "inset 0 0 0 0.5px rgba(0, 0, 0, 0.5)",
            }}
          />
        ))}
        <Mark at={zero} dashed={false} />
        <Mark at={end} dashed />
      </div>
      <div aria-hidden style={{ position: "relative", height: 17 }}>
        <Label at={zero} text="0" />
        <Label at={end} text={total.toFixed(3)} />
      </div>
      <ul
        style={{
          display: "flex",
          flexWrap: "wrap",
          gap: "2px 14px",
          margin: 0,
          padding: 0,
          listStyle: "none",
        }}
      >
        {parts.map((part) => (
          <li key={part.name} style={{ overflowWrap: "anywhere", minWidth: 0 }}>
            <span
              aria-hidden
              style={{
                display: "inline-block",
                width: 10,
                height: 10,
                marginInlineEnd: 5,
                background: swatch(part),
              }}
            />
            <bdi>{part.name}</bdi> {part.text}
          </li>
        ))}
      </ul>
    </div>
  );
}

function Mark(props: { at: number; dashed: boolean }) {
  return (
    <div
      style={{
        position: "absolute",
        top: 0,
        bottom: 0,
        left: `calc(${props.at}% - 1px)`,
        borderLeft: `2px ${props.dashed ? "dashed" : "solid"} currentColor`,
      }}
    />
  );
}

/** A text below a place of a bar, kept inside of its ends. */
function Label(props: { at: number; text: string }) {
  const { at, text } = props;
  return (
    <span
      style={{
        position: "absolute",
        left: `${at}%`,
        transform: `translateX(-${Math.min(Math.max(at, 0), 100)}%)`,
        whiteSpace: "nowrap",
      }}
    >
      {text}
    </span>
  );
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
  const marks = ticks(low * limit, limit, 5);
  return (
    <div
      data-testid="sfam-colorbar"
      role="img"
      aria-label={`Colors from ${(low * limit).toPrecision(3)} to ${limit.toPrecision(3)} ${unit}`}
      style={{ ...SMALL, minWidth: 120 }}
    >
      <div
        style={{
          height: 12,
          background: `linear-gradient(90deg, ${stops.join(", ")})`,
          boxShadow: "inset 0 0 0 1px rgba(128, 128, 128, 0.6)",
        }}
      />
      <div style={{ position: "relative", height: 22 }}>
        {marks.map(({ value, text }) => {
          const at = (100 * (value / limit - low)) / (1 - low);
          return (
            <React.Fragment key={text}>
              <div
                style={{
                  position: "absolute",
                  left: `calc(${at}% - ${at / 100}px)`,
                  height: 4,
                  borderLeft: "1px solid currentColor",
                }}
              />
              <div style={{ position: "absolute", top: 4, width: "100%" }}>
                <Label at={at} text={text} />
              </div>
            </React.Fragment>
          );
        })}
      </div>
      <div style={{ opacity: 0.8 }}>{unit}</div>
    </div>
  );
}
