/** The queue as a list: pictures and labels of the rows that are in sight. */

import { React } from "./app";
import { listScore } from "./formats";
import { Field, nameOf, pick, push, tick } from "./parts";
import type { Session } from "./session";
import { marked } from "./store";
import { outcomeOf } from "./strip";
import type { Choice, Spec } from "./types";

const HEIGHT = 60; // pixels of a row
const SETTLED = 80; // milliseconds without scrolling before rows are asked for

function rowOf(session: Session, place: number, pair: number) {
  const { chosen, opened, outside, two, queue } = session.state;
  const row = session.row(place);
  const verdict = session.verdicts.of(pair, row?.verdict);
  return (
    <div
      key={place}
      className="sfam-row"
      style={{ top: place * HEIGHT, height: HEIGHT }}
      role="option"
      tabIndex={-1}
      id={`sfam-row-${place}`}
      aria-selected={chosen.has(pair)}
      aria-current={place === session.state.place && !outside && !two}
      aria-posinset={place + 1}
      aria-setsize={queue?.pairs.length}
      data-testid="sfam-queue-row"
      data-pair={pair}
      onClick={({ shiftKey, ctrlKey, metaKey }) => {
        const how = shiftKey ? "range" : ctrlKey || metaKey ? "toggle" : "one";
        session.become(marked(session.state, place, how));
      }}
      onKeyDown={() => undefined}
    >
      {row?.pictures.map(({ url }, side) => (
        <img key={side ? "neighbor" : "query"} src={url || undefined} alt="" />
      ))}
      {row && (
        <div className="sfam-cells">
          <span className="sfam-line">
            {outcomeOf(opened, row.outcome)} rank {row.rank}, {row.similarity.toFixed(3)}
          </span>
          <span className="sfam-line">
            {nameOf(row.identity, "?")} → {nameOf(row.neighbor_identity, "?")}
          </span>
          <span className="sfam-line">
            {listScore(row)} {verdict !== null && nameOf(verdict, "", "sfam-own")}
          </span>
        </div>
      )}
    </div>
  );
}

export function QueueList({ session }: { session: Session }) {
  const { queue, place, handed, spec, chosen, filters, opened } = session.state;
  const list = React.useRef<HTMLDivElement>(null);
  const [seen, setSeen] = React.useState({ top: 0, height: 600 });
  const look = () => {
    const { scrollTop: top = 0, clientHeight: height = 600 } = list.current ?? {};
    setSeen({ top, height });
  };
  const pairs = queue?.pairs ?? new Int32Array();
  const first = Math.max(Math.floor(seen.top / HEIGHT) - 2, 0);
  const last = Math.min(Math.ceil((seen.top + seen.height) / HEIGHT) + 2, pairs.length - 1);
  React.useEffect(() => {
    const observer = new ResizeObserver(look);
    if (list.current) observer.observe(list.current);
    return () => observer.disconnect();
  }, []);
  React.useEffect(() => {
    if (!list.current) return;
    const { scrollTop, clientHeight } = list.current;
    const [from, to] = [place * HEIGHT, (place + 1) * HEIGHT];
    if (from < scrollTop) list.current.scrollTop = from;
    else if (to > scrollTop + clientHeight) list.current.scrollTop = to - clientHeight;
  }, [place, queue]);
  React.useEffect(() => {
    const timer = setTimeout(() => last >= first && session.wantRows(first, last), SETTLED);
    return () => clearTimeout(timer);
  }, [first, last, queue, session.state.message]);
  const rows = [...pairs.subarray(first, last + 1)];
  const orders = opened?.orders ?? [];
  const reorder = (order: string | null) => session.filter({ order: order ?? "" });
  const toggle = () => session.set({ filters: !filters });
  return (
    <section className="sfam-queue" aria-label="Queue">
      <div className="sfam-tools">
        <b data-testid="sfam-place">
          {pairs.length && place + 1} of {pairs.length}
        </b>
        {handed && nameOf(handed.title)}
        {handed && push("Leave these pairs", () => session.leaveHanded())}
        {!handed && queue && <span>{queue.reviewed} reviewed</span>}
        {!handed && pick("Order", spec.order ?? orders[0]?.name, orders, reorder)}
        {!handed && push("Filters", toggle, { hint: "Filters (F)", on: filters })}
        {chosen.size > 0 && push("Drop selection", () => session.set({ chosen: new Set() }))}
      </div>
      {filters && !handed && filterBar(session)}
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
        <div style={{ height: pairs.length * HEIGHT }}>
          {rows.map((pair, at) => rowOf(session, first + at, pair))}
        </div>
      </div>
    </section>
  );
}

function filterBar(session: Session) {
  const { opened, run, spec } = session.state;
  if (!opened || !run) return null;
  const cameras = run.cameras.map((name) => ({ name, label: name }));
  const choose = (label: string, name: keyof Spec, options: Choice[], none?: string) => {
    const value = (spec[name] ?? null) as string | null;
    if (!options.length && value === null) return null;
    return pick(label, value, options, (one) => session.filter({ [name]: one }), none);
  };
  const field = (label: string, name: keyof Spec, type: "text" | "number") => {
    const read = (text: string) => (text === "" ? null : type === "text" ? text : Number(text));
    const enter = (text: string) => void session.filter({ [name]: read(text) });
    return <Field label={label} type={type} value={String(spec[name] ?? "")} onEnter={enter} />;
  };
  return (
    <div className="sfam-tools" role="group" aria-label="Filters">
      {choose("Outcome", "outcome", opened.outcomes, "any")}
      {choose("Ranks", "ranks", opened.ranks)}
      {choose("Review", "reviewed", opened.reviewed, "any")}
      {choose("Suspects", "suspect", run.suspects, "any")}
      {choose("Query camera", "query_camera", cameras, "any")}
      {choose("Neighbor camera", "neighbor_camera", cameras, "any")}
      {field("Similarity from", "min_similarity", "number")}
      {field("to", "max_similarity", "number")}
      {field("Identity", "identity", "text")}
      {tick("Only the view", spec.in_view ?? false, (in_view) => session.filter({ in_view }))}
      {push("Clear filters", () => session.filter(null))}
    </div>
  );
}
