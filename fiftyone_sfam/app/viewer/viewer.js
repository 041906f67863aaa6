// Built from src/ by `make viewer`; do not edit.
"use strict";
(() => {
  // src/app.ts
  var app = globalThis;

  // src/findings_state.ts
  var FIRST = { start: 0, count: 8, kind: null, min_probability: 0 };
  var EMPTY = { place: FIRST, list: null, verdicts: {}, problem: null };
  function verdictOf(state, key) {
    const answer = state.list?.findings.find((finding) => finding.key === key)?.answer ?? "";
    const listed2 = { answer, before: answer, pending: false, previous: null, problem: null };
    return state.verdicts[key] ?? listed2;
  }
  function withVerdict(state, key, verdict) {
    const changed = { ...verdictOf(state, key), ...verdict };
    return { ...state, verdicts: { ...state.verdicts, [key]: changed } };
  }
  function listed(state, list) {
    const pending = Object.entries(state.verdicts).filter(([, verdict]) => verdict.pending);
    return { ...state, list, problem: null, verdicts: Object.fromEntries(pending) };
  }
  function settling(state, key, wanted) {
    const { answer, before } = verdictOf(state, key);
    const next = wanted === "undo" ? before : wanted;
    return withVerdict(state, key, { answer: next, before: answer, pending: true, problem: null });
  }
  function settled(state, key, now) {
    let next = withVerdict(state, key, { pending: false, previous: now.previous ?? null });
    for (const [other, answer] of Object.entries(now.answers)) {
      const known = verdictOf(next, other);
      if (!known.pending && known.answer !== answer) next = withVerdict(next, other, { answer });
    }
    return { ...next, list: next.list && { ...next.list, expected: now.expected } };
  }
  function refused(state, key, problem) {
    const { before } = verdictOf(state, key);
    return withVerdict(state, key, { answer: before, pending: false, problem });
  }
  function turned(place, total, by) {
    const start = place.start + by * place.count;
    return start + place.count <= 0 || start >= total ? null : { ...place, start: Math.max(0, start) };
  }
  function stepped(key, at, count) {
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: count - 1 }[key];
    return to === void 0 ? null : Math.min(Math.max(to, 0), count - 1);
  }

  // src/findings_style.ts
  var STYLE = `
.sfam-f { --line: rgba(var(--fo-palette-common-onBackgroundChannel) / 0.3);
  --main: var(--fo-palette-primary-main); --soft: var(--fo-palette-text-secondary);
  font-size: 0.85rem; line-height: 1.45; color: var(--fo-palette-text-primary);
  display: grid; gap: 10px;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 500px), 1fr)); }
.sfam-f > nav, .sfam-f > p { grid-column: 1 / -1; }
.sfam-f p { margin: 0; overflow-wrap: anywhere; max-width: 100ch; }
.sfam-f-row, .sfam-f header { display: flex; flex-wrap: wrap; gap: 4px 12px;
  align-items: baseline; }
.sfam-f article { display: grid; gap: 6px; align-content: start; padding: 10px 12px; border-radius: 4px;
  border: 1px solid var(--line); background: var(--fo-palette-background-level2); }
.sfam-f :focus-visible { outline: 2px solid var(--main); outline-offset: 1px; }
.sfam-f header span, .sfam-f figure { color: var(--soft); }
.sfam-f .sfam-f-accepted { color: #0a9a70; } .sfam-f .sfam-f-rejected { color: #d9640f; }
.sfam-f-groups { display: flex; flex-wrap: wrap; gap: 8px 20px; }
.sfam-f figure { margin: 0; min-width: 0; font-size: 0.76rem; }
.sfam-f figcaption { max-width: 260px; overflow: hidden; text-overflow: ellipsis;
  white-space: nowrap; }
.sfam-f figure > div { display: flex; flex-wrap: wrap; gap: 6px; align-items: center; }
.sfam-f button, .sfam-f select { font: inherit; color: inherit; cursor: pointer;
  background: transparent; border-radius: 4px; padding: 1px 8px; border: 1px solid var(--line); }
.sfam-f option { color: #222; background: #fff; }
.sfam-f button:hover { border-color: var(--main); }
.sfam-f button[aria-disabled="true"] { opacity: 0.5; cursor: default; }
.sfam-f button[aria-pressed="true"] { border-color: currentColor; font-weight: 600; }
.sfam-f figure button { display: grid; justify-items: center; gap: 2px; padding: 3px;
  border-color: transparent; }
.sfam-f-doubted img { outline: 2px solid var(--main); }
.sfam-f img { height: 100px; min-width: 24px; max-width: 130px; object-fit: contain; }
.sfam-f button span { max-width: 92px; overflow: hidden; text-overflow: ellipsis;
  white-space: nowrap; }
.sfam-f button .sfam-f-missing { width: 92px; height: 100px; white-space: normal; }
.sfam-f [role="alert"] { color: var(--fo-palette-error-main, #d32f2f); }
`;

  // src/findings.tsx
  var { React } = app;
  var kept = /* @__PURE__ */ new Map();
  var asked = /* @__PURE__ */ new Map();
  var LOST = { problem: "The server of FiftyOne did not answer.", stale: false };
  var QUESTIONS = { accepted: "accept", rejected: "reject", undo: "undo", "": "undo" };
  var SIGNS = { accepted: "✓ accepted", rejected: "✗ rejected", "": "" };
  function useFindings(view) {
    const panelId = app.__fosp__.usePanelId();
    const trigger = app.__foo__.usePanelEvent();
    const id = [panelId, view.uid, view.searched].join(" ");
    const [, redraw] = React.useReducer((count) => count + 1, 0);
    const state = kept.get(id) ?? EMPTY;
    const change = (next) => {
      kept.set(id, next(kept.get(id) ?? EMPTY));
      redraw();
    };
    const ask = (question, given, done) => {
      const params = { ...given, question, run: view.run, uid: view.uid };
      const callback = (reply) => done(reply.result ?? LOST);
      trigger(panelId, { operator: view.ask, params, callback });
    };
    const load = (place) => {
      asked.set(id, place);
      change((now) => ({ ...now, place, problem: null }));
      ask("findings", place, (answer) => {
        if (asked.get(id) !== place) return;
        if (answer.problem === void 0) change((now) => listed(now, answer));
        else change((now) => ({ ...now, problem: answer.problem }));
      });
    };
    const settle = (finding, wanted) => {
      const { pending, previous: entries } = verdictOf(state, finding);
      if (pending || wanted === "undo" && !entries) return;
      change((now) => settling(now, finding, wanted));
      const shown = state.list?.findings.map((one) => one.key);
      ask(QUESTIONS[wanted], { finding, shown, entries }, (answer) => {
        if (answer.problem === void 0) change((now) => settled(now, finding, answer));
        else change((now) => refused(now, finding, answer.problem));
      });
    };
    const open = (finding, item) => {
      const params = { mark: "finding", finding, item: item ?? null };
      trigger(panelId, { operator: view.mark, params, callback: () => void 0 });
    };
    React.useEffect(() => {
      if (!kept.get(id)?.list) load({ ...FIRST });
    }, [id]);
    return { state, load, settle, open };
  }
  function Button({ label, title, on, off, press }) {
    return /* @__PURE__ */ React.createElement("button", { type: "button", title, "aria-pressed": on, "aria-disabled": off, onClick: press }, label);
  }
  function Group({ group, pictures, open }) {
    const pictured = (item) => {
      const { url = "", label = "", problem = null } = pictures[item] ?? {};
      const missing = /* @__PURE__ */ React.createElement("span", { className: "sfam-f-missing" }, problem ?? "No picture.");
      return /* @__PURE__ */ React.createElement("button", { key: item, type: "button", "data-item": item, title: label, onClick: () => open(item) }, url ? /* @__PURE__ */ React.createElement("img", { src: url, alt: `${group.title}: ${label}` }) : missing, /* @__PURE__ */ React.createElement("span", { dir: "auto" }, label));
    };
    return /* @__PURE__ */ React.createElement("figure", { className: `sfam-f-${group.role}` }, /* @__PURE__ */ React.createElement("figcaption", { dir: "auto" }, group.title), /* @__PURE__ */ React.createElement("div", null, group.items.map(pictured), group.more > 0 && /* @__PURE__ */ React.createElement("span", null, "+", group.more)));
  }
  function Entry({ finding, verdict, settle, step, ...opening }) {
    const { answer, pending: off, previous, problem } = verdict;
    const onKeyDown = (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (finding.can_settle && event.key === "a") settle("accepted");
      else if (finding.can_settle && event.key === "r") settle("rejected");
      else if (event.key === "u") settle("undo");
      else if (!step(event.key)) return;
      event.preventDefault();
      event.stopPropagation();
    };
    const button = (label, wanted, title) => /* @__PURE__ */ React.createElement(Button, { ...{ label, title, off }, on: answer === wanted, press: () => settle(wanted) });
    return /* @__PURE__ */ React.createElement("article", { "data-finding": finding.key, "aria-label": finding.sentence, onKeyDown }, /* @__PURE__ */ React.createElement("header", null, /* @__PURE__ */ React.createElement("strong", null, finding.kind), /* @__PURE__ */ React.createElement("span", null, `${finding.probable ? "probability" : "score"} ${finding.score}`), /* @__PURE__ */ React.createElement("b", { className: `sfam-f-${answer}` }, SIGNS[answer])), /* @__PURE__ */ React.createElement("div", { className: "sfam-f-groups" }, finding.groups.map((group) => /* @__PURE__ */ React.createElement(Group, { key: group.title, group, ...opening }))), /* @__PURE__ */ React.createElement("p", { dir: "auto" }, finding.sentence), /* @__PURE__ */ React.createElement("p", { dir: "auto" }, /* @__PURE__ */ React.createElement("b", null, "Proposal:"), " ", finding.proposal, " ", finding.note), /* @__PURE__ */ React.createElement("div", { className: "sfam-f-row" }, finding.can_settle && button("Accept", "accepted", "Accept the proposal (A)"), finding.can_settle && button("Reject", "rejected", "Reject the proposal (R)"), previous && /* @__PURE__ */ React.createElement(Button, { label: "Undo", title: "(U)", off, press: () => settle("undo") }), /* @__PURE__ */ React.createElement(Button, { label: "Show pairs", press: () => opening.open() })), problem && /* @__PURE__ */ React.createElement("p", { role: "alert" }, problem));
  }
  function Select({ label, value, choices, ...rest }) {
    return /* @__PURE__ */ React.createElement("label", null, label, " ", /* @__PURE__ */ React.createElement("select", { value, onChange: (event) => rest.choose(event.target.value) }, choices.map(([name, text]) => /* @__PURE__ */ React.createElement("option", { key: name, value: name, label: text }))));
  }
  var LEAST = [["0", "any score"], ...["0.5", "0.7", "0.9"].map(twice)];
  function twice(text) {
    return [text, text];
  }
  function SfamFindings(props) {
    const { state, load, settle, open } = useFindings(props.schema.view);
    const root = React.useRef(null);
    const { list, place, problem } = state;
    const count = list?.findings.length ?? 0;
    const all = { ...place, start: 0 };
    const kinds = list?.kinds.map(({ name, label }) => [name, label]) ?? [];
    const turn = (label, by) => {
      const to = turned(place, list?.total ?? 0, by);
      return /* @__PURE__ */ React.createElement(Button, { label, off: !to, press: () => to && load(to) });
    };
    const step = (at) => (key) => {
      const to = stepped(key, at, count);
      if (to !== null)
        root.current?.querySelectorAll("article")[to]?.querySelector("button")?.focus();
      return to !== null;
    };
    return /* @__PURE__ */ React.createElement("div", { className: "sfam-f", "data-testid": "sfam-findings", ref: root }, /* @__PURE__ */ React.createElement("style", null, STYLE), problem && /* @__PURE__ */ React.createElement("p", { role: "alert" }, problem, " ", /* @__PURE__ */ React.createElement(Button, { label: "Try again", press: () => load(place) })), !list && !problem && /* @__PURE__ */ React.createElement("p", null, "Looking up the findings …"), list && /* @__PURE__ */ React.createElement("nav", { className: "sfam-f-row", "aria-label": "Findings" }, /* @__PURE__ */ React.createElement(
      Select,
      {
        label: "Kind",
        value: place.kind ?? "",
        choices: [["", "all kinds"], ...kinds],
        choose: (to) => load({ ...all, kind: to || null })
      }
    ), /* @__PURE__ */ React.createElement(
      Select,
      {
        label: "At least",
        value: String(place.min_probability),
        choices: LEAST,
        choose: (to) => load({ ...all, min_probability: Number(to) })
      }
    ), /* @__PURE__ */ React.createElement("span", null, `${count && place.start + 1} to ${place.start + count} of ${list.total}`), turn("Previous", -1), turn("Next", 1)), list?.expected && /* @__PURE__ */ React.createElement("p", { role: "status" }, list.expected), list?.findings.map((finding, at) => /* @__PURE__ */ React.createElement(
      Entry,
      {
        key: finding.key,
        ...{ finding, pictures: list.pictures, step: step(at) },
        verdict: verdictOf(state, finding.key),
        settle: (wanted) => settle(finding.key, wanted),
        open: (item) => open(finding.key, item)
      }
    )));
  }

  // src/handover.ts
  var EVENT = "sfam-pairs";
  var waiting = null;
  function handOver(handed) {
    waiting = handed;
    globalThis.dispatchEvent(new CustomEvent(EVENT));
  }
  function registerHandover() {
    class ViewPairs extends app.__foo__.Operator {
      get config() {
        const label = "Show pairs in the panel of pairs";
        return new app.__foo__.OperatorConfig({ name: "view_pairs", label, unlisted: true });
      }
      async execute({ params }) {
        handOver(params);
      }
    }
    app.__foo__.registerOperator(ViewPairs, "@fiftyone-sfam/sfam");
  }

  // src/main.tsx
  var { React: React2 } = app;
  function Viewer(props) {
    const panelId = app.__fosp__.usePanelId();
    const trigger = app.__foo__.usePanelEvent();
    const [text, setText] = React2.useState("...");
    const address = props.schema.view.ask;
    React2.useEffect(() => {
      trigger(panelId, {
        operator: address,
        params: { question: "open" },
        callback: (result) => setText(JSON.stringify(result.result))
      });
    }, []);
    return /* @__PURE__ */ React2.createElement("div", { "data-testid": "sfam-viewer" }, text);
  }
  app.__fop__.registerComponent({
    name: "SfamPairs",
    label: "SFAM pairs",
    component: Viewer,
    type: app.__fop__.PluginComponentType.Component,
    activator: () => true
  });
  var type = app.__fop__.PluginComponentType.Component;
  var findings = { name: "SfamFindings", label: "SFAM findings", component: SfamFindings, type };
  app.__fop__.registerComponent({ ...findings, activator: () => true });
  registerHandover();
})();
