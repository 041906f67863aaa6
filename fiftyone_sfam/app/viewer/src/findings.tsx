/** The list of findings of the audit panel: each with its pictures, and verdicts in place. */

import { app } from "./app";
import type { State } from "./findings_state";
import * as lists from "./findings_state";
import { STYLE } from "./findings_style";
import type { Finding, FindingGroup, Findings, Place, Settled, SettledNow } from "./findings_types";
import type { Answer } from "./types";

const { React } = app;

interface View {
  ask: string;
  mark: string;
  run: string;
  uid: string;
  searched: string; // another one after each search
}

/** What panels show, so that one that is made anew goes on where it was. */
const kept = new Map<string, State>();

const LOST = "The server of FiftyOne did not answer.";

function useFindings(view: View) {
  const panelId = app.__fosp__.usePanelId();
  const trigger = app.__foo__.usePanelEvent();
  const id = [panelId, view.uid, view.searched].join(" ");
  const [, redraw] = React.useReducer((count: number) => count + 1, 0);
  const asked = React.useRef(0);
  const state = kept.get(id) ?? lists.empty();

  const change = (next: (state: State) => State) => {
    kept.set(id, next(kept.get(id) ?? lists.empty()));
    redraw();
  };
  const ask = <T,>(question: string, params: object, done: (answer: Answer<T>) => void) =>
    trigger(panelId, {
      operator: view.ask,
      params: { ...params, question, run: view.run, uid: view.uid },
      callback: (reply) => {
        done((reply.result as Answer<T> | null) ?? { problem: LOST, stale: false });
      },
    });

  const load = (place: Place) => {
    asked.current += 1;
    const number = asked.current;
    change((now) => ({ ...now, place, problem: null }));
    ask<Findings>("findings", place, (answer) => {
      if (number !== asked.current) return; // another list was asked for since
      if (answer.problem === undefined) change((now) => lists.listed(now, answer));
      else change((now) => ({ ...now, problem: answer.problem }));
    });
  };

  const settle = (key: string, wanted: Settled | "undo") => {
    const { pending, previous } = lists.verdictOf(state, key);
    if (pending || (wanted === "undo" && !previous)) return;
    change((now) => lists.settling(now, key, wanted));
    const question = wanted === "accepted" ? "accept" : wanted === "rejected" ? "reject" : "undo";
    const shown = state.list?.findings.map((finding) => finding.key) ?? [];
    ask<SettledNow>(question, { finding: key, shown, entries: previous }, (answer) => {
      if (answer.problem === undefined) change((now) => lists.settled(now, key, answer));
      else change((now) => lists.refused(now, key, answer.problem));
    });
  };

  /** Open the pairs of a finding, those with an image first. */
  const open = (finding: string, item?: number) =>
    trigger(panelId, {
      operator: view.mark,
      params: { mark: "finding", finding, ...(item === undefined ? {} : { item }) },
      callback: () => undefined,
    });

  React.useEffect(() => {
    if (!kept.get(id)?.list) load(lists.FIRST);
  }, [id]);
  return { state, load, settle, open };
}

function Group(props: {
  group: FindingGroup;
  pictures: Findings["pictures"];
  open: (item: number) => void;
}) {
  const { group, pictures, open } = props;
  return (
    <figure className={`sfam-f-group sfam-f-${group.role}`}>
      <figcaption dir="auto">{group.title}</figcaption>
      <div>
        {group.items.map((item) => {
          const picture = pictures[item];
          const label = picture?.label ?? "";
          const title = picture?.problem ? `${label}: ${picture.problem}` : label;
          return (
            <button
              key={item}
              type="button"
              className="sfam-f-picture"
              data-item={item}
              title={title}
              onClick={() => open(item)}
            >
              {picture?.url ? (
                <img src={picture.url} alt={`${group.title}: ${label}`} />
              ) : (
                <span className="sfam-f-missing">{picture?.problem ?? "No picture."}</span>
              )}
              <span dir="auto">{label}</span>
            </button>
          );
        })}
        {group.more > 0 && <span className="sfam-f-more">+{group.more}</span>}
      </div>
    </figure>
  );
}

const SIGNS = { "": "", accepted: "✓ accepted", rejected: "✗ rejected" };

function Entry(props: {
  finding: Finding;
  verdict: lists.Verdict;
  pictures: Findings["pictures"];
  settle: (wanted: Settled | "undo") => void;
  open: (item?: number) => void;
  step: (key: string) => boolean;
}) {
  const { finding, verdict, pictures, settle, open, step } = props;
  const { answer, pending, previous, problem } = verdict;
  const onKeyDown = (event: React.KeyboardEvent) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const key = event.key.toLowerCase();
    if (finding.can_settle && key === "a") settle("accepted");
    else if (finding.can_settle && key === "r") settle("rejected");
    else if (key === "u") settle("undo");
    else if (!step(event.key)) return;
    event.preventDefault();
    event.stopPropagation();
  };
  const button = (label: string, wanted: Settled | "undo", hint: string) => (
    <button
      type="button"
      aria-pressed={wanted === "undo" ? undefined : answer === wanted}
      aria-disabled={pending}
      title={hint}
      onClick={() => settle(wanted)}
    >
      {label}
    </button>
  );
  return (
    <article data-finding={finding.key} aria-label={finding.sentence} onKeyDown={onKeyDown}>
      <header>
        <strong>{finding.kind}</strong>
        <span>
          {finding.probable ? "probability" : "score"} {finding.score}
        </span>
        {answer && <span className={`sfam-f-${answer}`}>{SIGNS[answer]}</span>}
      </header>
      <div className="sfam-f-groups">
        {finding.groups.map((group) => (
          <Group key={group.title} group={group} pictures={pictures} open={open} />
        ))}
      </div>
      <p dir="auto">{finding.sentence}</p>
      <p dir="auto">
        <b>Proposal:</b> {finding.proposal} {finding.note}
      </p>
      <div className="sfam-f-buttons">
        {finding.can_settle && button("Accept", "accepted", "Accept the proposal (A)")}
        {finding.can_settle && button("Reject", "rejected", "Reject the proposal (R)")}
        {previous && button("Undo", "undo", "Take the verdict back (U)")}
        <button
          type="button"
          title="Show its pairs, and its images in the grid"
          onClick={() => open()}
        >
          Show pairs
        </button>
      </div>
      {problem && <p role="alert">{problem}</p>}
    </article>
  );
}

function Controls(props: { state: State; list: Findings; load: (place: Place) => void }) {
  const { state, list, load } = props;
  const turn = (by: number, label: string) => {
    const place = lists.turned(state.place, list.total, by);
    return (
      <button type="button" disabled={!place} onClick={() => place && load(place)}>
        {label}
      </button>
    );
  };
  const all = { ...state.place, start: 0 };
  return (
    <nav aria-label="Findings">
      <label>
        Kind{" "}
        <select
          value={state.place.kind ?? ""}
          onChange={(event) => load({ ...all, kind: event.target.value || null })}
        >
          <option value="">all kinds</option>
          {list.kinds.map((kind) => (
            <option key={kind.name} value={kind.name}>
              {kind.label}
            </option>
          ))}
        </select>
      </label>
      <label>
        At least{" "}
        <select
          value={state.place.min_probability}
          onChange={(event) => load({ ...all, min_probability: Number(event.target.value) })}
        >
          {[0, 0.5, 0.7, 0.9].map((least) => (
            <option key={least} value={least}>
              {least ? least.toFixed(1) : "any score"}
            </option>
          ))}
        </select>
      </label>
      <span>{lists.shownRange(state.place, list)}</span>
      {turn(-1, "Previous")}
      {turn(1, "Next")}
    </nav>
  );
}

export function SfamFindings(props: { schema: { view: View } }) {
  const { state, load, settle, open } = useFindings(props.schema.view);
  const root = React.useRef<HTMLDivElement>(null);
  const { list, problem } = state;
  const step = (at: number) => (key: string) => {
    const to = lists.stepped(key, at, list?.findings.length ?? 0);
    const next = to === null ? null : root.current?.querySelectorAll("article")[to];
    next?.querySelector("button")?.focus();
    next?.scrollIntoView({ block: "nearest" });
    return to !== null;
  };
  return (
    <div className="sfam-f" data-testid="sfam-findings" ref={root}>
      <style>{STYLE}</style>
      {problem && (
        <p role="alert">
          {problem}{" "}
          <button type="button" onClick={() => load(state.place)}>
            Try again
          </button>
        </p>
      )}
      {!list && !problem && <p>Looking up the findings …</p>}
      {list && <Controls state={state} list={list} load={load} />}
      {list?.expected && <p role="status">{list.expected}</p>}
      {list?.findings.map((finding, at) => (
        <Entry
          key={finding.key}
          finding={finding}
          verdict={lists.verdictOf(state, finding.key)}
          pictures={list.pictures}
          settle={(wanted) => settle(finding.key, wanted)}
          open={(item) => open(finding.key, item)}
          step={step(at)}
        />
      ))}
    </div>
  );
}
