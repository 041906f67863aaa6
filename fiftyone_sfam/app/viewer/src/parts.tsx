/** Small parts that the others are made of. */

import { app } from "./app";
import type { Choice } from "./types";

const { React } = app;

/** A text from the data, as it is: cut by the style, whole in its title. */
export function Name(props: { text: string | null; none?: string }) {
  const text = props.text ?? props.none ?? "";
  return (
    <bdi className="sfam-name" dir="auto" title={text}>
      {text}
    </bdi>
  );
}

export function Pick(props: {
  label: string;
  value: string | null;
  options: readonly Choice[];
  none?: string; // label of the choice of none
  onPick: (name: string | null) => void;
}) {
  return (
    <label className="sfam-pick">
      <span>{props.label}</span>
      <select
        value={props.value === null ? "none" : `=${props.value}`}
        onChange={({ target }) =>
          props.onPick(target.value === "none" ? null : target.value.slice(1))
        }
      >
        {props.none !== undefined && <option value="none">{props.none}</option>}
        {props.options.map(({ name, label }) => (
          <option key={name} value={`=${name}`}>
            {label}
          </option>
        ))}
      </select>
    </label>
  );
}

export function Tick(props: { label: string; on: boolean; onTick: (on: boolean) => void }) {
  return (
    <label className="sfam-tick">
      <input type="checkbox" checked={props.on} onChange={() => props.onTick(!props.on)} />
      {props.label}
    </label>
  );
}

export function Slide(props: { label: string; value: number; onSlide: (value: number) => void }) {
  return (
    <label className="sfam-pick">
      <span>{props.label}</span>
      <input
        type="range"
        min={0}
        max={100}
        value={Math.round(props.value * 100)}
        onChange={({ target }) => props.onSlide(Number(target.value) / 100)}
      />
    </label>
  );
}

/** A field whose text counts once Enter is pressed or the field is left. */
export function Field(props: {
  label: string;
  value: string;
  number?: boolean;
  onEnter: (text: string) => void;
}) {
  const [text, setText] = React.useState(props.value);
  React.useEffect(() => setText(props.value), [props.value]);
  const enter = () => text !== props.value && props.onEnter(text);
  return (
    <label className="sfam-pick">
      <span>{props.label}</span>
      <input
        type={props.number ? "number" : "text"}
        step="any"
        dir="auto"
        value={text}
        onChange={({ target }) => setText(target.value)}
        onKeyDown={(event) => event.key === "Enter" && enter()}
        onBlur={enter}
      />
    </label>
  );
}

/** A button that says whether it is on. */
export function Push(props: {
  label: string;
  on?: boolean;
  hint?: string;
  testId?: string;
  children?: React.ReactNode;
  onPush: () => void;
}) {
  return (
    <button
      type="button"
      aria-label={props.label}
      aria-pressed={props.on}
      title={props.hint ?? props.label}
      data-testid={props.testId}
      onClick={props.onPush}
    >
      {props.children ?? props.label}
    </button>
  );
}
