/** The whole panel: tools, both images, the strip, verdicts, the queue. */

import { app } from "./app";
import {
  ColorBar,
  colorTable,
  decode,
  type Look,
  Receipt,
  Stage,
  type StageImage,
} from "./drawing";
import { useFollow } from "./follow";
import { onHandedOver } from "./handover";
import { commandOf, HELP } from "./keys";
import { Name, Pick, Push } from "./parts";
import { QueueList } from "./queue";
import { Session, type Shown, type ShownMap } from "./session";
import { Outcome, Strip } from "./strip";
import { addStyle } from "./style";
import { Toolbar } from "./toolbar";
import type { Encoded, Picture, Side } from "./types";
import { Verdicts } from "./verdicts";

const { React } = app;

/** The App may take a panel down and up again: what it shows stays. */
const sessions = new Map<string, Session>();
const decoded = new WeakMap<Encoded, Float32Array>();
const tables = new WeakMap<Encoded, Uint8Array>();

function once<T>(known: WeakMap<Encoded, T>, encoded: Encoded, make: (one: Encoded) => T): T {
  const value = known.get(encoded) ?? make(encoded);
  known.set(encoded, value);
  return value;
}

function sessionOf(panelId: string): Session {
  const session = sessions.get(panelId) ?? new Session();
  sessions.set(panelId, session);
  return session;
}

export function Viewer(props: { schema: { view: { ask: string } } }) {
  const panelId = app.__fosp__.usePanelId();
  const trigger = app.__foo__.usePanelEvent();
  const session = React.useMemo(() => sessionOf(panelId), [panelId]);
  const operator = props.schema.view.ask;
  session.client.send = (params, done) => {
    const callback = (reply: Parameters<typeof done>[0]) => {
      done(reply);
      return false; // otherwise the App takes the panel down where a question failed
    };
    trigger(panelId, { operator, params, callback });
  };
  React.useSyncExternalStore(session.client.subscribe, () => session.client.version);
  const root = React.useRef<HTMLDivElement>(null);
  const [modal, setModal] = React.useState(false);
  React.useEffect(() => {
    addStyle();
    const inModal = root.current?.closest('[data-cy="modal"]') !== null;
    setModal(inModal);
    if (!inModal && document.activeElement === document.body) root.current?.focus();
    if (!session.state.opened) void session.open();
    return onHandedOver((handed) => void session.handOver(handed));
  }, [session]);
  useFollow(session, session.state.opened !== null, modal);
  React.useEffect(() => session.fetch());
  const { opened, run, two, message, queue } = session.state;
  const { shown, current, problem } = session.shown();
  const map = shown && session.map(shown);
  const said = message?.text ?? problem?.message ?? null;
  return (
    <section
      className="sfam"
      data-testid="sfam-viewer"
      aria-label="SFAM pairs"
      tabIndex={0}
      ref={root}
      onKeyDown={(event) => {
        const command = event.defaultPrevented ? null : commandOf(event);
        if (!command) return;
        event.preventDefault();
        event.stopPropagation();
        session.run(command);
      }}
    >
      {said !== null && (
        <div className="sfam-message" role="alert" data-testid="sfam-message">
          <span>{said}</span>
          {(message?.retry ?? true) && <Push label="Retry" onPush={() => void session.again()} />}
          {message && (
            <Push
              label="Dismiss"
              onPush={() => session.dispatch({ type: "message", message: null })}
            />
          )}
        </div>
      )}
      {(run || two) && <Toolbar session={session} shown={shown} map={map} />}
      {!opened && said === null && <p role="status">Loading…</p>}
      {opened?.empty && !two && (
        <div className="sfam-empty" data-testid="sfam-empty">
          <p>{opened.empty}</p>
          <Push label="Explain the retrieval…" onPush={() => void session.explainRetrieval()} />
          <Push label="Look again" onPush={() => void session.open()} />
        </div>
      )}
      <div className="sfam-body">
        {shown && (two || session.state.pair !== null) && (
          <Pair session={session} shown={shown} map={map} current={current} />
        )}
        {!shown && run && queue && queue.pairs.length > 0 && <p role="status">Loading…</p>}
        {run && <QueueList session={session} />}
      </div>
      {session.state.help && (
        <div className="sfam-help" role="dialog" aria-label="Keys" data-testid="sfam-help">
          <dl>
            {HELP.map(([key, text]) => (
              <React.Fragment key={key}>
                <dt>
                  <kbd>{key}</kbd>
                </dt>
                <dd>{text}</dd>
              </React.Fragment>
            ))}
          </dl>
          <Push label="Close" onPush={() => session.run({ name: "help" })} />
        </div>
      )}
    </section>
  );
}

function Pair(props: { session: Session; shown: Shown; map: ShownMap | null; current: boolean }) {
  const { session, shown, map, current } = props;
  const { query, neighbor, index } = shown;
  const { state } = session;
  const { choices, opened, run, two } = state;
  const look = lookOf(session, shown, map);
  const sides = map?.live?.maps[0] ?? neighbor;
  const image = (picture: Picture, side: Side | null, label: string) =>
    stageImage(picture, side, map, label);
  const next = choices.swipe ? query.neighbors[index + 1] : undefined;
  const { points, problem } = session.points(neighbor.pair);
  const hints = [points ? null : (problem?.message ?? null), map?.problem?.message ?? null];
  const notes = [...(run?.notes ?? []), ...query.notes, ...(points?.notes ?? [])];
  return (
    <div className={current ? "sfam-pair" : "sfam-pair sfam-old"} aria-busy={!current}>
      <Scores session={session} shown={shown} />
      <div
        className="sfam-shown"
        data-testid="sfam-shown"
        data-pair={current ? neighbor.pair : undefined}
        data-kind={map?.kind.name}
        data-place={state.place}
      >
        <Stage
          query={image(query.picture, sides.query_side, `Query ${query.identity ?? ""}`)}
          neighbor={image(
            neighbor.picture,
            sides.neighbor_side,
            `Neighbor ${neighbor.identity ?? ""}`,
          )}
          swipe={next ? image(next.picture, next.neighbor_side, `Neighbor ${next.rank}`) : null}
          look={look}
          zoom={state.zoom}
          onZoom={(zoom) => session.dispatch({ type: "set", change: { zoom } })}
          points={points && pointsOf(points)}
          pins={state.pins}
          onPins={(pins) => session.dispatch({ type: "set", change: { pins } })}
          loupe={choices.loupe}
          hint={hints.find((hint) => hint !== null) ?? null}
        />
      </div>
      <div className="sfam-bar">
        <span data-testid="sfam-map">
          {map?.kind.label ?? "no map"}
          {map?.waiting && ` (${map.waiting.label} is being computed…)`}
        </span>
        <ColorBar look={look} unit={map?.kind.unit ?? ""} />
      </div>
      <div className="sfam-bar">
        <Receipt shares={neighbor.receipt} total={neighbor.similarity} />
        {run && run.fields.length > 1 && !two && (
          <Pick
            label="Divided by"
            value={choices.region ?? run.fields[0]?.name ?? null}
            options={run.fields}
            onPick={(region) => session.dispatch({ type: "choose", change: { region } })}
          />
        )}
      </div>
      {!two && <Strip session={session} shown={shown} />}
      {!two && opened && <Verdicts session={session} />}
      {!two && (
        <div className="sfam-bar">
          <Push label="Show in the grid" onPush={() => void session.show("grid")} />
          <Push label="Open the query" onPush={() => void session.show("query")} />
          <Push label="Open the neighbor" onPush={() => void session.show("neighbor")} />
        </div>
      )}
      {[...new Set(notes)].map((note) => (
        <p className="sfam-note" key={note}>
          {note}
        </p>
      ))}
    </div>
  );
}

function Scores(props: { session: Session; shown: Shown }) {
  const { query, neighbor } = props.shown;
  const { margin } = neighbor;
  return (
    <div className="sfam-bar" data-testid="sfam-scores">
      <span className="sfam-who">
        <Name text={query.identity} none="no identity" />
        {query.camera !== null && <Name text={query.camera} />}
      </span>
      <span className="sfam-center">
        <Outcome opened={props.session.state.opened} name={neighbor.outcome} words />
        {neighbor.rank > 0 && <b>Rank {neighbor.rank}</b>}
        <span>
          similarity {neighbor.similarity.toFixed(4)}, distance {neighbor.distance.toFixed(4)}
        </span>
        {neighbor.best_true && <span>nearest true match</span>}
        {margin !== null && !neighbor.best_true && (
          <span>
            nearest true match {margin < 0 ? "−" : "+"}
            {Math.abs(margin).toFixed(4)}
          </span>
        )}
      </span>
      <span className="sfam-who">
        <Name text={neighbor.identity} none="no identity" />
        {neighbor.camera !== null && <Name text={neighbor.camera} />}
      </span>
    </div>
  );
}

function stageImage(
  picture: Picture,
  side: Side | null,
  map: ShownMap | null,
  label: string,
): StageImage {
  const encoded = map ? side?.maps[map.kind.name] : undefined;
  const [rows = 1, columns = 1] = encoded?.shape ?? [];
  const values = encoded ? once(decoded, encoded, decode) : null;
  return { picture, values, shape: [rows, columns], box: side?.box ?? [0, 0, 1, 1], label };
}

function pointsOf(found: NonNullable<ReturnType<Session["points"]>["points"]>) {
  return {
    queryShape: found.query_shape,
    neighborShape: found.neighbor_shape,
    queryBox: found.query_box,
    neighborBox: found.neighbor_box,
    values: once(decoded, found.points, decode),
    similarity: found.similarity,
  };
}

function lookOf(session: Session, shown: Shown, map: ShownMap | null): Look {
  const { choices, opened } = session.state;
  const signed = choices.signed || (map?.kind.signed ?? false);
  const fitting = (opened?.colors ?? []).filter((one) => one.diverging === signed);
  const color = fitting.find((one) => one.name === choices.colors) ?? fitting[0];
  const table = color ? once(tables, color.table, colorTable) : new Uint8Array(768);
  const limit = map ? session.limit(shown, map, signed) : 0;
  const { opacity, threshold, smooth, mode } = choices;
  return { table, diverging: signed, signed, limit, opacity, threshold, smooth, mode };
}
