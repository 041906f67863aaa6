/** The whole panel: tools, both images, the strip, verdicts, the queue. */

import { React } from "./app";
import { ColorBar, Receipt } from "./bars";
import { colorTable, decode } from "./decode";
import { listScore } from "./formats";
import type { Look, StageImage } from "./geometry";
import { onHandedOver } from "./handover";
import { commandOf, KEYS } from "./keys";
import { paintCard } from "./painting";
import { useFollow, usePanel } from "./panel";
import { nameOf, pick, push } from "./parts";
import { pictureOf } from "./pictures";
import { QueueList } from "./queue";
import { same } from "./same";
import { Session, type Shown, type ShownMap } from "./session";
import css from "./shell.css";
import { Stage } from "./stage";
import { outcomeOf, Strip } from "./strip";
import { colorsOf, toolbar } from "./toolbar";
import type { Encoded, Labels, Neighbor, Picture, Query, Side } from "./types";
import { Verdicts } from "./verdicts";

const decoded = new WeakMap<Encoded, Float32Array | Uint8Array>();

function once<T extends Float32Array | Uint8Array>(encoded: Encoded, make: (one: Encoded) => T): T {
  const value = (decoded.get(encoded) as T | undefined) ?? make(encoded);
  decoded.set(encoded, value);
  return value;
}

export function Viewer(props: { schema: { view: { ask: string } } }) {
  const session = usePanel(props.schema.view.ask, () => new Session());
  const root = React.useRef<HTMLElement>(null);
  const [modal, setModal] = React.useState(false);
  React.useEffect(() => {
    const inModal = root.current?.closest('[data-cy="modal"]') !== null;
    setModal(inModal);
    if (!inModal && document.activeElement === document.body) root.current?.focus();
    if (!session.state.opened) void session.open();
    return onHandedOver((handed) => void session.handOver(handed));
  }, [session]);
  useFollow(session, session.state.opened !== null, modal);
  const { choices, pair, zoom, pins, help, ...rest } = session.state;
  const { opened, run, two, message, queue } = rest;
  const listed = [rest, session.client.values("rows"), session.verdicts.version];
  const { shown, current, problem } = session.shown();
  React.useEffect(() => (current ? later(() => session.fetch()) : session.fetch()));
  const map = shown && session.map(shown);
  const channels = shown && session.channels(shown.neighbor.pair);
  const said = message?.text ?? problem?.message ?? null;
  const waiting = said === null && (!opened || (!shown && queue && queue.pairs.length > 0));
  const onKeyDown = (event: React.KeyboardEvent) => {
    const command = event.defaultPrevented ? null : commandOf(event);
    if (!command) return;
    event.preventDefault();
    event.stopPropagation();
    command(session);
  };
  const named = { "data-testid": "sfam-viewer", "aria-label": "SFAM pairs" };
  return (
    <section className="sfam" tabIndex={0} ref={root} onKeyDown={onKeyDown} {...named}>
      <style>{css}</style>
      {said !== null && (
        <div className="sfam-message" role="alert" data-testid="sfam-message">
          <span>{said}</span>
          {(message?.retry ?? true) && push("Retry", () => session.again())}
          {message && push("Dismiss", () => session.set({ message: null }))}
        </div>
      )}
      {(run || two) && (
        <Part
          needs={[opened, run, two, choices, shown?.query.kinds, map?.kind, channels]}
          draw={() => toolbar(session, shown, map)}
        />
      )}
      {waiting && <p role="status">Loading…</p>}
      {opened?.empty && !two && (
        <div className="sfam-empty" data-testid="sfam-empty">
          <p>{opened.empty}</p>
          {push("Explain the retrieval…", () => session.tell("explain"))}{" "}
          {push("Look again", () => session.open())}
        </div>
      )}
      <div className="sfam-body">
        {shown && <Pair session={session} shown={shown} map={map} current={current} />}
        {run && <Part needs={listed} draw={() => <QueueList session={session} />} />}
      </div>
      {help && (
        <div className="sfam-help" role="dialog" aria-label="Keys" data-testid="sfam-help">
          {KEYS.map(([key, text]) => (
            <div key={key}>
              <kbd>{key}</kbd> {text}
            </div>
          ))}
          {push("Close", () => session.set({ help: false }))}
        </div>
      )}
    </section>
  );
}

/** Milliseconds after a change before texts follow, and while one change follows the other. */
const [PAUSE, MOST] = [60, 500];

/** Draws again where something has changed that it needs, after the images: a text or a list can
 * cost the browser more than a frame. What has the focus needs its values at once. */
function Part(props: { needs: unknown; draw: () => React.ReactNode }) {
  const root = React.useRef<HTMLDivElement>(null);
  const latest = React.useRef(props);
  const since = React.useRef(0); // when it was out of date first; 0 if it is not
  const [drawn, setDrawn] = React.useState(props);
  const stale = !same(drawn.needs, props.needs);
  latest.current = props;
  if (stale && root.current?.contains(document.activeElement)) setDrawn(props);
  since.current = stale ? since.current || performance.now() : 0;
  React.useEffect(() => {
    const wait = Math.min(PAUSE, since.current + MOST - performance.now());
    const timer = stale ? setTimeout(() => setDrawn(latest.current), wait) : undefined;
    return () => clearTimeout(timer);
  });
  const content = React.useMemo(drawn.draw, [drawn]);
  return React.createElement("div", { className: "sfam-part", ref: root }, content);
}

function Pair(props: { session: Session; shown: Shown; map: ShownMap; current: boolean }) {
  const { session, shown, map, current } = props;
  const { query, neighbor, index } = shown;
  const { zoom, pins, ...others } = session.state;
  const { opened, choices, two, place } = others;
  const [, again] = React.useReducer((count: number) => count + 1, 0);
  const isLoading = ({ url }: Picture) => url && pictureOf(url, again).state === "loading";
  const loading = [query.picture, neighbor.picture].some(isLoading);
  const look = lookOf(session, shown, map);
  const sides = map?.live ?? neighbor;
  const drawn = (one: Query | Neighbor, side: Side | null, label: string) =>
    imageOf(session.picture(one), side, map, label);
  const paint = (one: Neighbor, canvas: HTMLCanvasElement) => {
    const small = session.map(shown, true);
    const side = (small?.live ? session.live(small.kind.name, one.pair) : one)?.neighbor_side;
    const card = imageOf(one.picture, side ?? null, small, "");
    paintCard(canvas, card, lookOf(session, shown, small));
  };
  const next = choices.swipe ? query.neighbors[index + 1] : undefined;
  const { value: points, problem } = session.points(neighbor.pair);
  return (
    <div className={current ? "sfam-pair" : "sfam-pair sfam-old"} aria-busy={!current}>
      <Part needs={[shown, current, opened]} draw={() => scores(session, shown)} />
      <div
        className="sfam-shown"
        data-testid="sfam-shown"
        data-pair={current && !loading ? neighbor.pair : undefined}
        data-kind={map?.kind.name}
        data-place={place}
      >
        <Stage
          query={drawn(query, sides.query_side, `Query ${query.identity ?? ""}`)}
          neighbor={drawn(neighbor, sides.neighbor_side, `Neighbor ${neighbor.rank}`)}
          swipe={next ? imageOf(next.picture, next.neighbor_side, map, `Rank ${next.rank}`) : null}
          look={look}
          zoom={zoom}
          onZoom={(to) => session.set({ zoom: to })}
          points={points ? { ...points, values: once(points.points, decode) } : null}
          pins={pins}
          onPins={(now) => session.set({ pins: now })}
          loupe={choices.loupe}
          hint={map?.problem?.message ?? problem?.message ?? null}
        />
      </div>
      {!two && (
        <Part
          needs={[query.neighbors, neighbor.pair, opened, choices.strip && [look, map]]}
          draw={() => <Strip {...{ session, shown }} paint={choices.strip ? paint : null} />}
        />
      )}
      <Part
        needs={[shown, map, look, points?.notes, others, session.verdicts.version]}
        draw={() => details(session, shown, map, look)}
      />
    </div>
  );
}

/** What stands below the images and the strip. */
function details(session: Session, { query, neighbor }: Shown, map: ShownMap, look: Look) {
  const { run, two, choices } = session.state;
  const points = session.points(neighbor.pair).value;
  const notes = [run?.notes, query.notes, points?.notes, map?.live?.notes].flat();
  const fields = (!two && run?.fields) || [];
  const divide = (region: string | null) => session.choose({ region });
  const show = (what: string) => () => session.tell("show", { what });
  return (
    <>
      {!two && <Verdicts session={session} />}
      <div className="sfam-tools">
        <span data-testid="sfam-map">
          {map?.kind.label ?? "no map"}
          {map?.waiting && ` (${map.waiting.label} is being computed…)`}
        </span>
        <ColorBar look={look} unit={map?.kind.unit ?? ""} />
      </div>
      <div className="sfam-tools">
        <Receipt shares={neighbor.receipt} total={neighbor.similarity} />
        {fields.length > 1 && pick("Divided by", choices.region, fields, divide)}
      </div>
      <div className="sfam-tools">
        {!two && push("Show in the grid", show("grid"))}
        {!two && push("Open the query", show("query"))}
        {!two && push("Open the neighbor", show("neighbor"))}
      </div>
      {[...new Set(notes)].map((note) => note && <p key={note}>{note}</p>)}
    </>
  );
}

/** Call once the next frame is painted. */
const later = (call: () => void) => void requestAnimationFrame(() => setTimeout(call));

function scores(session: Session, { query, neighbor }: Shown) {
  const { margin, best_true, rank, similarity, distance, outcome } = neighbor;
  const who = ({ identity, camera }: Labels) => (
    <span className="sfam-who">
      {nameOf(identity, "no identity")}
      {camera !== null && nameOf(camera)}
    </span>
  );
  const apart = margin && `${Math.abs(margin).toFixed(4)} ${margin < 0 ? "less" : "more"} similar`;
  return (
    <div className="sfam-tools" data-testid="sfam-scores" data-pair={neighbor.pair}>
      {who(query)}
      <span className="sfam-center">
        {outcomeOf(session.state.opened, outcome, true)}
        {rank > 0 && <b>Rank {rank}</b>}
        <span>
          similarity {similarity.toFixed(4)}, distance {distance.toFixed(4)}
        </span>
        {listScore(neighbor)}
        {(best_true || apart) && <span>nearest true match{best_true ? "" : `: ${apart}`}</span>}
      </span>
      {who(neighbor)}
    </div>
  );
}

function imageOf(picture: Picture, side: Side | null, map: ShownMap, label: string): StageImage {
  const encoded = map ? side?.maps[map.kind.name] : undefined;
  const [rows = 1, columns = 1] = encoded?.shape ?? [];
  const values = encoded ? once(encoded, decode) : null;
  return { picture, values, shape: [rows, columns], box: side?.box ?? [0, 0, 1, 1], label };
}

function lookOf(session: Session, shown: Shown, map: ShownMap): Look {
  const { opacity, threshold, smooth, mode } = session.state.choices;
  const { signed, color } = colorsOf(session.state, map);
  const table = color ? once(color.table, colorTable) : new Uint8Array(768);
  const limit = map ? session.limit(shown, map, signed) : 0;
  return { table, diverging: signed, signed, limit, opacity, threshold, smooth, mode };
}
