/** Small parts that the others are made of, most as functions to be called. */

import { React } from "./app";
import type { Choice } from "./types";

/** A text from the data, as it is: cut by the style, whole in its title. */
export function nameOf(text: string | null, none = "", className = "") {
  return (
    <bdi className={`sfam-name ${className}`} dir="auto" title={text ?? none}>
      {text ?? none}
    </bdi>
  );
}

/** Return an input with its words before or behind it. */
function labeled(...parts: React.ReactNode[]) {
  return React.createElement("label", { className: "sfam-pick" }, ...parts);
}

/** A list to choose from; `none` is the label of the choice of none, if there is one. */
export function pick(
  label: string,
  value: string | null | undefined,
  options: readonly Choice[],
  onPick: (name: string | null) => void,
  none?: string,
) {
  const all = none === undefined ? options : [{ name: "", label: none }, ...options];
  const choose = (name: string) => onPick(name === "" ? null : name);
  return labeled(
    label,
    <select aria-label={label} value={value ?? ""} onChange={({ target }) => choose(target.value)}>
      {all.map((option) => (
        <option key={option.name} value={option.name}>
          {option.label}
        </option>
      ))}
    </select>,
  );
}

export function tick(label: string, on: boolean, onTick: (on: boolean) => void) {
  return labeled(<input type="checkbox" checked={on} onChange={() => onTick(!on)} />, label);
}

export function slide(label: string, value: number, onSlide: (value: number) => void) {
  const at = Math.round(value * 100);
  const change = (text: string) => onSlide(Number(text) / 100);
  const input = <input type="range" value={at} onChange={({ target }) => change(target.value)} />;
  return labeled(label, input);
}

interface More {
  on?: boolean | undefined; // whether it is pressed
  off?: boolean; // whether it does nothing
  hint?: string;
  testId?: string;
  children?: React.ReactNode;
}

export function push(label: string, onPush: () => unknown, more: More = {}) {
  const { on, off, hint, testId, children = label } = more;
  const states = { "aria-pressed": on, "aria-disabled": off, "data-testid": testId };
  return (
    <button key={label} type="button" title={hint} aria-label={label} onClick={onPush} {...states}>
      {children}
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
  return labeled(
    label,
    <input
      aria-label={label}
      dir="auto"
      type={type}
      step="any"
      value={text}
      onChange={({ target }) => setText(target.value)}
      onKeyDown={({ key }) => key === "Enter" && enter()}
      onBlur={enter}
    />,
  );
}
