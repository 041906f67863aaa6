/** The list of findings of the audit panel: each with its pictures, and verdicts in place. */

import { React } from "./app";
import css from "./findings.css";
import { FIRST, FindingsList, stepped, turned } from "./findings_state";
import { usePanel, useSend } from "./panel";
import { pick, push } from "./parts";
import type { Finding, FindingGroup } from "./types";

/** `ask` and `mark`: addresses of methods; `searched`: another one after each search. */
type View = Record<"ask" | "mark" | "run" | "uid" | "searched", string>;

const SIGNS = { accepted: "✓ accepted", rejected: "✗ rejected", "": "" };
const LEAST = ["0.5", "0.7", "0.9"].map((name) => ({ name, label: name }));

interface Shown {
  list: FindingsList;
  finding: Finding;
  open: (item?: number) => unknown; // the pairs of the finding, those with an item first
}

function groupOf({ list, open }: Shown, { role, title, items, more }: FindingGroup) {
  const pictured = (item: number) => {
    const { url = "", label = "", problem = null } = list.answer?.pictures[item] ?? {};
    const missing = <span className="sfam-f-missing">{problem ?? "No picture."}</span>;
    return (
      <button key={item} type="button" data-item={item} title={label} onClick={() => open(item)}>
        {url ? <img src={url} alt={`${title}: ${label}`} /> : missing}
        <span dir="auto">{label}</span>
      </button>
    );
  };
  return (
    <figure key={title} className={`sfam-f-${role}`}>
      <figcaption dir="auto">{title}</figcaption>
      <div>
        {items.map(pictured)}
        {more > 0 && <span>+{more}</span>}
      </div>
    </figure>
  );
}

function Entry(props: Shown & { step: (key: string) => boolean }) {
  const { list, finding, open, step } = props;
  const { key, can_settle } = finding;
  const verdict = list.verdicts.of(key);
  const settle = (question: "accept" | "reject" | "restore") => void list.settle(key, question);
  const onKeyDown = (event: React.KeyboardEvent) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (can_settle && event.key === "a") settle("accept");
    else if (can_settle && event.key === "r") settle("reject");
    else if (event.key === "u") settle("restore");
    else if (!step(event.key)) return;
    event.preventDefault();
    event.stopPropagation();
  };
  const button = (label: string, question: "accept" | "reject", hint: string) =>
    push(label, () => settle(question), { hint, on: verdict === `${question}ed` });
  return (
    <article data-finding={key} aria-label={finding.sentence} onKeyDown={onKeyDown}>
      <header>
        <strong>{finding.kind}</strong>
        <span>{`${finding.probable ? "probability" : "score"} ${finding.score}`}</span>
        <b className={`sfam-f-${verdict}`}>{SIGNS[verdict]}</b>
        {list.verdicts.isPending(key) && <span role="status">Saving…</span>}
      </header>
      <div className="sfam-f-groups">{finding.groups.map((group) => groupOf(props, group))}</div>
      <p dir="auto">{finding.sentence}</p>
      <p dir="auto">
        <b>Proposal:</b> {finding.proposal} {finding.note}
      </p>
      <div className="sfam-f-row">
        {can_settle && button("Accept", "accept", "Accept the proposal (A)")}
        {can_settle && button("Reject", "reject", "Reject the proposal (R)")}
        {list.verdicts.undoable(key) && push("Undo", () => settle("restore"), { hint: "(U)" })}
        {push("Show pairs", () => open())}
      </div>
      {list.refused.has(key) && <p role="alert">{list.refused.get(key)}</p>}
    </article>
  );
}

export function SfamFindings(props: { schema: { view: View } }) {
  const { ask, mark, run, uid, searched } = props.schema.view;
  const make = () => new FindingsList({ run, uid });
  const list = usePanel(ask, make, `${uid} ${searched}`);
  const send = useSend(mark);
  const root = React.useRef<HTMLDivElement>(null);
  React.useEffect(() => {
    if (!list.answer) void list.load(FIRST);
  }, [list]);
  const { place, problem } = list;
  const { findings = [], total = 0, kinds = [], expected } = list.answer ?? {};
  const first = { ...place, start: 0 };
  const least = (to: string | null) => list.load({ ...first, min_probability: Number(to) });
  const open = (finding: string) => (item?: number) =>
    send({ mark: "finding", finding, item: item ?? null }, () => undefined);
  const turn = (label: string, by: number) => {
    const to = turned(place, total, by);
    return push(label, () => to && list.load(to), { off: !to });
  };
  const step = (at: number) => (key: string) => {
    const to = stepped(key, at, findings.length);
    const entry = to === null ? undefined : root.current?.querySelectorAll("article")[to];
    entry?.querySelector("button")?.focus();
    return to !== null;
  };
  return (
    <div className="sfam-f" data-testid="sfam-findings" ref={root}>
      <style>{css}</style>
      {problem && (
        <p role="alert">
          {problem} {push("Try again", () => list.load(place))}
        </p>
      )}
      {!list.answer && !problem && <p>Looking up the findings …</p>}
      {list.answer && (
        <nav className="sfam-f-row" aria-label="Findings">
          {pick("Kind", place.kind, kinds, (kind) => list.load({ ...first, kind }), "all kinds")}
          {pick("At least", String(place.min_probability || ""), LEAST, least, "any score")}
          <span>
            {findings.length && place.start + 1} to {place.start + findings.length} of {total}
          </span>
          {turn("Previous", -1)}
          {turn("Next", 1)}
        </nav>
      )}
      {expected && <p role="status">{expected}</p>}
      {findings.map((finding, at) => (
        <Entry key={finding.key} {...{ list, finding, step: step(at), open: open(finding.key) }} />
      ))}
    </div>
  );
}
