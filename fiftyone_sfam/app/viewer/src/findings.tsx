/** The list of findings of the audit panel: each with its pictures, and verdicts in place. */

import { app } from "./app";
import * as lists from "./findings_state";
import { STYLE } from "./findings_style";
import type { Finding, FindingGroup, Findings, Settled, SettledNow } from "./findings_types";
import type { Answer } from "./types";

const { React } = app;

/** `ask` and `mark`: addresses of methods; `searched`: another one after each search. */
type View = Record<"ask" | "mark" | "run" | "uid" | "searched", string>;

/** What panels show, so that one that is made anew goes on where it was. */
const kept = new Map<string, lists.State>();
/** The place that each asked for last; answers for other places come too late. */
const asked = new Map<string, lists.Place>();
const LOST = { problem: "The server of FiftyOne did not answer.", stale: false };
const QUESTIONS = { accepted: "accept", rejected: "reject", undo: "undo", "": "undo" };
const SIGNS = { accepted: "✓ accepted", rejected: "✗ rejected", "": "" };

function useFindings(view: View) {
  const panelId = app.__fosp__.usePanelId();
  const trigger = app.__foo__.usePanelEvent();
  const id = [panelId, view.uid, view.searched].join(" ");
  const [, redraw] = React.useReducer((count: number) => count + 1, 0);
  const state = kept.get(id) ?? lists.EMPTY;

  const change = (next: (state: lists.State) => lists.State) => {
    kept.set(id, next(kept.get(id) ?? lists.EMPTY));
    redraw();
  };
  const ask = <T,>(question: string, given: object, done: (answer: Answer<T>) => void) => {
    const params = { ...given, question, run: view.run, uid: view.uid };
    const callback = (reply: { result?: unknown }) => {
      done((reply.result as Answer<T>) ?? LOST);
      return false; // otherwise the App takes the panel down where a question failed
    };
    trigger(panelId, { operator: view.ask, params, callback });
  };

  const load = (place: lists.Place) => {
    asked.set(id, place);
    change((now) => ({ ...now, place, problem: null }));
    ask<Findings>("findings", place, (answer) => {
      if (asked.get(id) !== place) return;
      if (answer.problem === undefined) change((now) => lists.listed(now, answer));
      else change((now) => ({ ...now, problem: answer.problem }));
    });
  };
  const settle = (finding: string, wanted: Settled | "undo") => {
    const now = kept.get(id) ?? lists.EMPTY;
    const { pending, previous: entries } = lists.verdictOf(now, finding);
    // Given while another one is being stored: its turn comes after that.
    if (pending) return change((state) => lists.postponed(state, finding, wanted));
    if (wanted === "undo" && !entries) return;
    change((state) => lists.settling(state, finding, wanted));
    const shown = now.list?.findings.map((one) => one.key);
    ask<SettledNow>(QUESTIONS[wanted], { finding, shown, entries }, (answer) => {
      const { next } = lists.verdictOf(kept.get(id) ?? lists.EMPTY, finding);
      if (answer.problem === undefined) change((state) => lists.settled(state, finding, answer));
      else change((state) => lists.refused(state, finding, answer.problem));
      if (next && answer.problem === undefined) settle(finding, next);
    });
  };
  /** Open the pairs of a finding, those with an image first: Python hands them over. */
  const open = (finding: string, item?: number) => {
    const params = { mark: "finding", finding, item: item ?? null };
    trigger(panelId, { operator: view.mark, params, callback: () => false });
  };
  React.useEffect(() => {
    if (!kept.get(id)?.list) load({ ...lists.FIRST });
  }, [id]);
  return { state, load, settle, open };
}

type Pressed = { label: string; title?: string; on?: boolean; off?: boolean; press: () => void };

function Button({ label, title, on, off, press }: Pressed) {
  return (
    <button type="button" title={title} aria-pressed={on} aria-disabled={off} onClick={press}>
      {label}
    </button>
  );
}

type Opening = { pictures: Findings["pictures"]; open: (item?: number) => void };

function Group({ group, pictures, open }: Opening & { group: FindingGroup }) {
  const pictured = (item: number) => {
    const { url = "", label = "", problem = null } = pictures[item] ?? {};
    const missing = <span className="sfam-f-missing">{problem ?? "No picture."}</span>;
    return (
      <button key={item} type="button" data-item={item} title={label} onClick={() => open(item)}>
        {url ? <img src={url} alt={`${group.title}: ${label}`} /> : missing}
        <span dir="auto">{label}</span>
      </button>
    );
  };
  return (
    <figure className={`sfam-f-${group.role}`}>
      <figcaption dir="auto">{group.title}</figcaption>
      <div>
        {group.items.map(pictured)}
        {group.more > 0 && <span>+{group.more}</span>}
      </div>
    </figure>
  );
}

type Shown = Opening & {
  finding: Finding;
  verdict: lists.Verdict;
  settle: (wanted: Settled | "undo") => void;
  step: (key: string) => boolean;
};

function Entry({ finding, verdict, settle, step, ...opening }: Shown) {
  const { answer, pending: off, previous, problem } = verdict;
  const onKeyDown = (event: React.KeyboardEvent) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (finding.can_settle && event.key === "a") settle("accepted");
    else if (finding.can_settle && event.key === "r") settle("rejected");
    else if (event.key === "u") settle("undo");
    else if (!step(event.key)) return;
    event.preventDefault();
    event.stopPropagation();
  };
  const button = (label: string, wanted: "accepted" | "rejected", title: string) => (
    <Button {...{ label, title, off }} on={answer === wanted} press={() => settle(wanted)} />
  );
  return (
    <article data-finding={finding.key} aria-label={finding.sentence} onKeyDown={onKeyDown}>
      <header>
        <strong>{finding.kind}</strong>
        <span>{`${finding.probable ? "probability" : "score"} ${finding.score}`}</span>
        <b className={`sfam-f-${answer}`}>{SIGNS[answer]}</b>
      </header>
      <div className="sfam-f-groups">
        {finding.groups.map((group) => (
          <Group key={group.title} group={group} {...opening} />
        ))}
      </div>
      <p dir="auto">{finding.sentence}</p>
      <p dir="auto">
        <b>Proposal:</b> {finding.proposal} {finding.note}
      </p>
      <div className="sfam-f-row">
        {finding.can_settle && button("Accept", "accepted", "Accept the proposal (A)")}
        {finding.can_settle && button("Reject", "rejected", "Reject the proposal (R)")}
        {previous && <Button label="Undo" title="(U)" off={off} press={() => settle("undo")} />}
        <Button label="Show pairs" press={() => opening.open()} />
      </div>
      {problem && <p role="alert">{problem}</p>}
    </article>
  );
}

type Options = { label: string; value: string; choices: [string, string][] };

function Select({ label, value, choices, ...rest }: Options & { choose: (to: string) => void }) {
  return (
    <label>
      {label}{" "}
      <select value={value} onChange={(event) => rest.choose(event.target.value)}>
        {choices.map(([name, text]) => (
          <option key={name} value={name} label={text} />
        ))}
      </select>
    </label>
  );
}

const LEAST: [string, string][] = [["0", "any score"], ...["0.5", "0.7", "0.9"].map(twice)];

function twice(text: string): [string, string] {
  return [text, text];
}

export function SfamFindings(props: { schema: { view: View } }) {
  const { state, load, settle, open } = useFindings(props.schema.view);
  const root = React.useRef<HTMLDivElement>(null);
  const { list, place, problem } = state;
  const count = list?.findings.length ?? 0;
  const all = { ...place, start: 0 };
  const kinds = list?.kinds.map(({ name, label }): [string, string] => [name, label]) ?? [];
  const turn = (label: string, by: number) => {
    const to = lists.turned(place, list?.total ?? 0, by);
    return <Button label={label} off={!to} press={() => to && load(to)} />;
  };
  const step = (at: number) => (key: string) => {
    const to = lists.stepped(key, at, count);
    if (to !== null)
      root.current?.querySelectorAll("article")[to]?.querySelector("button")?.focus();
    return to !== null;
  };
  return (
    <div className="sfam-f" data-testid="sfam-findings" ref={root}>
      <style>{STYLE}</style>
      {problem && (
        <p role="alert">
          {problem} <Button label="Try again" press={() => load(place)} />
        </p>
      )}
      {!list && !problem && <p>Looking up the findings …</p>}
      {list && (
        <nav className="sfam-f-row" aria-label="Findings">
          <Select
            label="Kind"
            value={place.kind ?? ""}
            choices={[["", "all kinds"], ...kinds]}
            choose={(to) => load({ ...all, kind: to || null })}
          />
          <Select
            label="At least"
            value={String(place.min_probability)}
            choices={LEAST}
            choose={(to) => load({ ...all, min_probability: Number(to) })}
          />
          <span>{`${count && place.start + 1} to ${place.start + count} of ${list.total}`}</span>
          {turn("Previous", -1)}
          {turn("Next", 1)}
        </nav>
      )}
      {list?.expected && <p role="status">{list.expected}</p>}
      {list?.findings.map((finding, at) => (
        <Entry
          key={finding.key}
          {...{ finding, pictures: list.pictures, step: step(at) }}
          verdict={lists.verdictOf(state, finding.key)}
          settle={(wanted) => settle(finding.key, wanted)}
          open={(item) => open(finding.key, item)}
        />
      ))}
    </div>
  );
}
