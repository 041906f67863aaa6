/** The queue as a list: pictures and labels of the rows that are in sight. */

import { app } from "./app";
import { Field, Name, Pick, Push, Tick } from "./parts";
import type { Session } from "./session";
import { Outcome } from "./strip";
import type { Spec } from "./types";

const { React } = app;

const HEIGHT = 60; // pixels of a row
const SETTLED = 80; // milliseconds without scrolling before rows are asked for

function Row(props: { session: Session; place: number; pair: number; count: number }) {
  const { session, place, pair, count } = props;
  const { chosen, opened, outside, two } = session.state;
  const row = session.row(place);
  const verdict = session.verdict(pair);
  const current = place === session.state.place && !outside && !two;
  return (
    <div
      className="sfam-row"
      style={{ top: place * HEIGHT, height: HEIGHT }}
      role="option"
      tabIndex={-1}
      id={`sfam-row-${place}`}
      aria-selected={chosen.has(pair)}
      aria-current={current}
      aria-posinset={place + 1}
      aria-setsize={count}
      data-testid="sfam-queue-row"
      data-pair={pair}
      onClick={(event) => {
        const how = event.shiftKey ? "range" : event.ctrlKey || event.metaKey ? "toggle" : "one";
        session.dispatch({ type: "mark", place, how });
      }}
      onKeyDown={() => undefined}
    >
      {row?.pictures.map((picture, side) => (
        <img key={side ? "neighbor" : "query"} src={picture.url || undefined} alt="" />
      ))}
      {row && (
        <div className="sfam-cells">
          <span className="sfam-line">
            <Outcome opened={opened} name={row.outcome} /> rank {row.rank},{" "}
            {row.similarity.toFixed(3)}
          </span>
          <span className="sfam-line">
            <Name text={row.identity} none="?" />
            <span>→</span>
            <Name text={row.neighbor_identity} none="?" />
          </span>
          {verdict !== null && (
            <span className="sfam-given">
              <Name text={verdict} />
            </span>
          )}
        </div>
      )}
    </div>
  );
}

export function QueueList(props: { session: Session }) {
  const { session } = props;
  const { queue, place, handed, spec, chosen, filters } = session.state;
  const list = React.useRef<HTMLDivElement>(null);
  const [seen, setSeen] = React.useState({ top: 0, height: 600 });
  const look = () => {
    const { scrollTop: top = 0, clientHeight: height = 600 } = list.current ?? {};
    setSeen({ top, height });
  };
  const count = queue?.pairs.length ?? 0;
  const first = Math.max(Math.floor(seen.top / HEIGHT) - 2, 0);
  const last = Math.min(Math.ceil((seen.top + seen.height) / HEIGHT) + 2, count - 1);
  React.useEffect(() => {
    const observer = new ResizeObserver(look);
    if (list.current) observer.observe(list.current);
    return () => observer.disconnect();
  }, []);
  React.useEffect(() => {
    const { scrollTop: top = 0, clientHeight: height = 0 } = list.current ?? {};
    const above = place * HEIGHT < top;
    if (list.current && (above || (place + 1) * HEIGHT > top + height))
      list.current.scrollTop = above ? place * HEIGHT : (place + 1) * HEIGHT - height;
  }, [place, queue]);
  React.useEffect(() => {
    if (last < first) return;
    const timer = setTimeout(() => session.wantRows(first, last), SETTLED);
    return () => clearTimeout(timer);
  }, [first, last, queue, session.client.version]);
  const rows = [];
  for (let at = first; at <= last; at += 1) {
    const pair = queue?.pairs[at] as number;
    rows.push(<Row key={at} session={session} place={at} pair={pair} count={count} />);
  }
  return (
    <section className="sfam-queue" aria-label="Queue">
      <div className="sfam-bar">
        <b data-testid="sfam-place">
          {count ? place + 1 : 0} of {count}
        </b>
        {!handed && queue && <span>{queue.reviewed} reviewed</span>}
        {handed ? (
          <>
            <Name text={handed.title} />
            <Push label="Leave these pairs" onPush={() => void session.leaveHanded()} />
          </>
        ) : (
          <>
            <Pick
              label="Order"
              value={spec.order}
              options={session.state.opened?.orders ?? []}
              onPick={(order) => void session.filter({ order: order ?? "" })}
            />
            <Push
              label="Filters"
              hint="Filters (F)"
              on={filters}
              onPush={() => session.run({ name: "filters" })}
            />
          </>
        )}
        {chosen.size > 0 && (
          <Push label="Drop selection" onPush={() => session.dispatch({ type: "unmark" })} />
        )}
      </div>
      {filters && !handed && <Filters session={session} />}
      {queue?.note && <p data-testid="sfam-queue-note">{queue.note}</p>}
      <div
        className="sfam-list"
        ref={list}
        onScroll={look}
        role="listbox"
        tabIndex={0}
        aria-label="Pairs"
        aria-multiselectable="true"
        aria-activedescendant={`sfam-row-${place}`}
        data-testid="sfam-queue"
      >
        <div style={{ height: count * HEIGHT }}>{rows}</div>
      </div>
    </section>
  );
}

function Filters(props: { session: Session }) {
  const { opened, run, spec } = props.session.state;
  if (!opened || !run) return null;
  const change = (one: Partial<Spec>) => void props.session.filter(one);
  const cameras = run.cameras.map((name) => ({ name, label: name }));
  const number = (text: string) => (text.trim() === "" ? null : Number(text));
  const pick = (label: string, name: keyof Spec, options: typeof cameras, none?: string) =>
    (options.length > 0 || spec[name]) && (
      <Pick
        label={label}
        value={spec[name] as string | null}
        options={options}
        {...(none === undefined ? {} : { none })}
        onPick={(value) => change({ [name]: value })}
      />
    );
  return (
    <div className="sfam-bar" role="group" aria-label="Filters">
      {pick("Outcome", "outcome", opened.outcomes, "any")}
      {pick("Ranks", "ranks", opened.ranks)}
      {pick("Review", "reviewed", opened.reviewed, "any")}
      {pick("Suspects", "suspect", run.suspects, "any")}
      {pick("Query camera", "query_camera", cameras, "any")}
      {pick("Neighbor camera", "neighbor_camera", cameras, "any")}
      <Field
        label="Similarity from"
        number
        value={String(spec.min_similarity ?? "")}
        onEnter={(text) => change({ min_similarity: number(text) })}
      />
      <Field
        label="to"
        number
        value={String(spec.max_similarity ?? "")}
        onEnter={(text) => change({ max_similarity: number(text) })}
      />
      <Field
        label="Identity"
        value={spec.identity ?? ""}
        onEnter={(text) => change({ identity: text === "" ? null : text })}
      />
      <Tick label="Only the view" on={spec.in_view} onTick={(on) => change({ in_view: on })} />
      <Push label="Clear filters" onPush={() => void props.session.clearFilters()} />
    </div>
  );
}
