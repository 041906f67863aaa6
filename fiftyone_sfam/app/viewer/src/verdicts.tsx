/** Verdicts on the shown pair, or on the selected ones. */

import { React } from "./app";
import { nameOf, push, tick } from "./parts";
import type { Session } from "./session";

const UNDO = { hint: "Undo (U)", testId: "sfam-undo" };

export function Verdicts({ session }: { session: Session }) {
  const { verdicts } = session;
  const { opened, chosen, pair, advance } = session.state;
  const [own, setOwn] = React.useState("");
  const shown = chosen.size || pair === null ? null : verdicts.of(pair);
  const known = opened?.verdicts ?? [];
  const label = verdicts.isPending() ? "Saving…" : "Verdict:";
  const button = ({ name, label, key }: (typeof known)[number]) =>
    push(label, () => session.give(name), {
      on: shown === name,
      hint: `${label} (${key})`,
      testId: `sfam-verdict-${name}`,
      children: `${key} ${label}`,
    });
  return (
    <div className="sfam-tools" role="group" aria-label="Verdict">
      <span role="status">{chosen.size ? `${chosen.size} selected:` : label}</span>
      {known.map(button)}
      {shown !== null && !known.some(({ name }) => name === shown) && nameOf(shown, "", "sfam-own")}
      <form
        onSubmit={(event) => {
          event.preventDefault();
          if (own.trim()) void session.give(own.trim());
          setOwn("");
        }}
      >
        <input
          aria-label="Verdict in your own words"
          placeholder="own words"
          dir="auto"
          maxLength={200}
          value={own}
          onChange={({ target }) => setOwn(target.value)}
        />
      </form>
      {verdicts.undoable() && push("Undo", () => session.undo(), UNDO)}
      {tick("then the next", advance, (on) => session.set({ advance: on }))}
    </div>
  );
}
