/** Verdicts on the shown pair, or on the selected ones. */

import { app } from "./app";
import { Push, Tick } from "./parts";
import type { Session } from "./session";

const { React } = app;

export function Verdicts(props: { session: Session }) {
  const { session } = props;
  const { opened, chosen, pair, undo, pending, advance } = session.state;
  const [own, setOwn] = React.useState("");
  const pairs = chosen.size ? [...chosen] : pair === null ? [] : [pair];
  const shown = chosen.size || pair === null ? null : session.verdict(pair);
  const known = opened?.verdicts ?? [];
  const give = (verdict: string) => void session.give(verdict, pairs);
  return (
    <div className="sfam-bar" role="group" aria-label="Verdict">
      <span role="status">
        {chosen.size ? `${chosen.size} selected:` : pending.length ? "Saving…" : "Verdict:"}
      </span>
      {known.map(({ name, label, key }) => (
        <Push
          key={name}
          label={label}
          hint={`${label} (${key})`}
          on={shown === name}
          testId={`sfam-verdict-${name}`}
          onPush={() => give(name)}
        >
          <kbd>{key}</kbd> {label}
        </Push>
      ))}
      {shown !== null && !known.some(({ name }) => name === shown) && (
        <bdi className="sfam-name sfam-own" dir="auto" title={shown}>
          {shown}
        </bdi>
      )}
      <form
        onSubmit={(event) => {
          event.preventDefault();
          if (own.trim()) give(own.trim());
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
      {(undo.length > 0 || pending.length > 0) && (
        <Push label="Undo" hint="Undo (U)" testId="sfam-undo" onPush={() => void session.undo()} />
      )}
      <Tick
        label="then the next"
        on={advance}
        onTick={(on) => session.dispatch({ type: "set", change: { advance: on } })}
      />
    </div>
  );
}
