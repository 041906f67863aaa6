/** Small parts that the others are made of, most as functions to be called. */

import { app } from "./app";
import type { Choice } from "./types";

const { React } = app;

/** A text from the data, as it is: cut by the style, whole in its title. */
export function nameOf(text: string | null, none = "", className = "") {
  return (
    <bdi className={`sfam-name ${className}`} dir="auto" title={text ?? none}>
      {text ?? none}
    </bdi>
  );
}

/** A list to choose from; `none` is the label of the choice of none, if there is one. */
export function pick(
  label: string,
  value: string | null | undefined,
  options: readonly Choice[],
  onPick: (name: string | null) => void,
  none?: string,
) {
  const choose = (name: string) => onPick(name === "" && none !== undefined ? null : name);
  return (
    <label className="sfam-pick">
      {label}
      <select
        aria-label={label}
        value={value ?? ""}
        onChange={({ target }) => choose(target.value)}
      >
        {none !== undefined && <option value="">{none}</option>}
        {options.map((option) => (
          <option key={option.name} value={option.name}>
            {option.label}
          </option>
        ))}
      </select>
    </label>
  );
}

export function tick(label: string, on: boolean, onTick: (on: boolean) => void) {
  return (
    <label className="sfam-pick">
      <input type="checkbox" checked={on} onChange={() => onTick(!on)} />
      {label}
    </label>
  );
}

export function slide(label: string, value: number, onSlide: (value: number) => void) {
  const change = (text: string) => onSlide(Number(text) / 100);
  const at = Math.round(value * 100);
  return (
    <label className="sfam-pick">
      {label}
      <input type="range" value={at} onChange={({ target }) => change(target.value)} />
    </label>
  );
}

interface More {
  on?: boolean | undefined; // whether it is pressed
  hint?: string;
  testId?: string;
  children?: React.ReactNode;
}

export function push(label: string, onPush: () => unknown, more: More = {}) {
  const named = { "aria-label": label, "aria-pressed": more.on, "data-testid": more.testId };
  return (
    <button key={label} type="button" title={more.hint} onClick={() => onPush()} {...named}>
      {more.children ?? label}
    </button>
  );
}

/** A field whose text counts once Enter is pressed or the field is left. */
export function Field(props: {
  label: string;
  value: string;
  type: "text" | "number";
  onEnter: (text: string) => void;
}) {
  const { label, value, type, onEnter } = props;
  const [text, setText] = React.useState(value);
  React.useEffect(() => setText(value), [value]);
  const enter = () => text !== value && onEnter(text);
  return (
    <label className="sfam-pick">
      {label}
      <input
        aria-label={label}
        dir="auto"
        type={type}
        step="any"
        value={text}
        onChange={({ target }) => setText(target.value)}
        onKeyDown={({ key }) => key === "Enter" && enter()}
        onBlur={enter}
      />
    </label>
  );
}
