/** All neighbors of the query, the true match beyond them included. */

import { app } from "./app";
import type { Session, Shown } from "./session";
import type { Neighbor, Opened } from "./types";

const { React } = app;

/** The sign of an outcome, in its color, with its name for screen readers. */
export function Outcome(props: { opened: Opened | null; name: string; words?: boolean }) {
  const outcome = props.opened?.outcomes.find((one) => one.name === props.name);
  return (
    <span className="sfam-outcome" style={{ background: outcome?.color }} title={outcome?.label}>
      <span aria-hidden="true">{outcome?.sign}</span>
      <span className={props.words ? "" : "sfam-unseen"}>{outcome?.label ?? props.name}</span>
    </span>
  );
}

export function Strip(props: { session: Session; shown: Shown }) {
  const { session, shown } = props;
  const { opened } = session.state;
  const list = React.useRef<HTMLDivElement>(null);
  React.useEffect(() => {
    const current = list.current?.querySelector<HTMLElement>('[aria-current="true"]');
    const { scrollLeft: left = 0, clientWidth: width = 0 } = list.current ?? {};
    if (!current || !list.current) return;
    const [from, to] = [current.offsetLeft, current.offsetLeft + current.offsetWidth];
    if (from < left || to > left + width) list.current.scrollLeft = from - width / 2;
  }, [shown.neighbor.pair]);
  const label = (one: Neighbor) =>
    `Rank ${one.rank}, similarity ${one.similarity.toFixed(4)}, ${one.outcome}` +
    `${one.best_true ? ", nearest true match" : ""}, ${one.identity ?? "no identity"}`;
  return (
    <div className="sfam-strip" role="group" aria-label="Neighbors of the query" ref={list}>
      {shown.query.neighbors.map((one) => (
        <button
          type="button"
          key={one.pair}
          className={one.best_true ? "sfam-card sfam-true" : "sfam-card"}
          data-testid="sfam-strip-item"
          data-pair={one.pair}
          aria-current={one.pair === shown.neighbor.pair}
          aria-label={label(one)}
          title={label(one)}
          onClick={() => session.dispatch({ type: "neighbor", pair: one.pair })}
        >
          <img src={one.picture.url || undefined} alt="" draggable={false} />
          <span className="sfam-line">
            <Outcome opened={opened} name={one.outcome} /> {one.rank}
            {one.best_true && <b title="nearest true match"> ★</b>}
          </span>
          <span>{one.similarity.toFixed(3)}</span>
        </button>
      ))}
    </div>
  );
}
