/** All neighbors of the query, the true match beyond them included. */

import { React } from "./app";
import type { Session, Shown } from "./session";
import { toNeighbor } from "./store";
import type { Neighbor, Opened } from "./types";

/** The sign of an outcome, in its color, with its name at least for screen readers. */
export function outcomeOf(opened: Opened | null, name: string, words = false) {
  const outcome = opened?.outcomes.find((one) => one.name === name);
  return (
    <span className="sfam-outcome" style={{ background: outcome?.color }} title={outcome?.label}>
      <span aria-hidden="true">{outcome?.sign} </span>
      <span className={words ? "" : "sfam-unseen"}>{outcome?.label ?? name}</span>
    </span>
  );
}

function describe(one: Neighbor): string {
  const scores = `Rank ${one.rank}, similarity ${one.similarity.toFixed(4)}, ${one.outcome}`;
  const best = one.best_true ? ", nearest true match" : "";
  return `${scores}${best}, ${one.identity ?? "no identity"}`;
}

/** Draws the map of a neighbor on a canvas over its picture. */
type Paint = (one: Neighbor, canvas: HTMLCanvasElement) => void;
type Props = { session: Session; shown: Shown; paint: Paint | null };

export function Strip({ session, shown, paint }: Props) {
  const list = React.useRef<HTMLDivElement>(null);
  React.useEffect(() => {
    const strip = list.current!;
    const current = strip.querySelector<HTMLElement>('[aria-current="true"]');
    if (current) strip.scrollLeft = current.offsetLeft - strip.clientWidth / 2;
  }, [shown.neighbor.pair]);
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
          aria-label={describe(one)}
          title={describe(one)}
          onClick={() => session.become(toNeighbor(session.state, one.pair))}
        >
          <img src={one.picture.url || undefined} alt="" draggable={false} />
          {paint && <canvas ref={(canvas) => canvas && paint(one, canvas)} />}
          <span className="sfam-line">
            {outcomeOf(session.state.opened, one.outcome)} {one.rank}
            {one.best_true && <b> ★</b>}
          </span>
          <span>{one.similarity.toFixed(3)}</span>
        </button>
      ))}
    </div>
  );
}
