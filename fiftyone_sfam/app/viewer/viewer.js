// Built from src/ by `make viewer`; do not edit.
"use strict";
(() => {
  // src/app.ts
  var app = globalThis;

  // src/findings_state.ts
  var FIRST = { start: 0, count: 8, kind: null, min_probability: 0 };
  function empty(place = FIRST) {
    return { place, list: null, verdicts: {}, problem: null };
  }
  var NONE = { answer: "", before: "", pending: false, previous: null, problem: null };
  function verdictOf(state, key) {
    const listed2 = state.list?.findings.find((finding) => finding.key === key)?.answer ?? "";
    return state.verdicts[key] ?? { ...NONE, answer: listed2, before: listed2 };
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
    const previous = now.previous ?? null;
    let next = withVerdict(state, key, { pending: false, previous });
    for (const [other, answer] of Object.entries(now.answers))
      if (other === key || !verdictOf(next, other).pending) {
        if (verdictOf(next, other).answer !== answer) next = withVerdict(next, other, { answer });
      }
    if (next.list) next = { ...next, list: { ...next.list, expected: now.expected } };
    return next;
  }
  function refused(state, key, problem) {
    const { answer, before } = verdictOf(state, key);
    return withVerdict(state, key, { answer: before, before: answer, pending: false, problem });
  }
  function shownRange(place, list) {
    const last = place.start + list.findings.length;
    return list.findings.length ? `${place.start + 1} to ${last} of ${list.total}` : "none";
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
.sfam-f { font-size: 0.85rem; line-height: 1.45; color: var(--fo-palette-text-primary);
  display: grid; gap: 10px; grid-template-columns: minmax(0, 1fr); }
.sfam-f p { margin: 0; overflow-wrap: anywhere; max-width: 100ch; }
.sfam-f nav, .sfam-f header, .sfam-f-buttons { display: flex; flex-wrap: wrap; gap: 4px 12px;
  align-items: baseline; }
.sfam-f nav { position: sticky; top: 0; }
.sfam-f article { display: grid; gap: 6px; padding: 10px 12px; border-radius: 4px;
  border: 1px solid rgba(var(--fo-palette-common-onBackgroundChannel) / 0.2);
  background: var(--fo-palette-background-level2); }
.sfam-f :focus-visible { outline: 2px solid var(--fo-palette-primary-main); outline-offset: 1px; }
.sfam-f header span { color: var(--fo-palette-text-secondary); }
.sfam-f header .sfam-f-accepted { color: #009e73; font-weight: 600; }
.sfam-f header .sfam-f-rejected { color: #d55e00; font-weight: 600; }
.sfam-f-groups { display: flex; flex-wrap: wrap; gap: 8px 20px; }
.sfam-f-group { margin: 0; min-width: 0; }
.sfam-f-group figcaption { color: var(--fo-palette-text-secondary); font-size: 0.78rem;
  overflow: hidden; text-overflow: ellipsis; white-space: nowrap; max-width: 260px; }
.sfam-f-group > div { display: flex; flex-wrap: wrap; gap: 6px; align-items: center; }
.sfam-f button, .sfam-f select { font: inherit; color: inherit; cursor: pointer;
  background: transparent; border-radius: 4px; padding: 1px 8px;
  border: 1px solid rgba(var(--fo-palette-common-onBackgroundChannel) / 0.35); }
.sfam-f option { color: #222; background: #fff; }
.sfam-f button:hover { border-color: var(--fo-palette-primary-main); }
.sfam-f button:disabled, .sfam-f button[aria-disabled="true"] { opacity: 0.5; cursor: default; }
.sfam-f button[aria-pressed="true"] { border-color: currentColor; font-weight: 600; }
.sfam-f .sfam-f-picture { display: grid; justify-items: center; align-content: start; gap: 2px;
  padding: 3px; border-color: transparent; font-size: 0.72rem; }
.sfam-f-doubted .sfam-f-picture img { outline: 2px solid var(--fo-palette-primary-main); }
.sfam-f-picture img { height: 100px; min-width: 24px; max-width: 130px; object-fit: contain; }
.sfam-f-picture span { max-width: 92px; overflow: hidden; text-overflow: ellipsis;
  white-space: nowrap; color: var(--fo-palette-text-secondary); }
.sfam-f-picture .sfam-f-missing { width: 92px; height: 100px; white-space: normal; }
.sfam-f-more { color: var(--fo-palette-text-secondary); }
.sfam-f [role="alert"] { color: var(--fo-palette-error-main, #d32f2f); }
`;

  // src/findings.tsx
  var { React } = app;
  var kept = /* @__PURE__ */ new Map();
  var LOST = "The server of FiftyOne did not answer.";
  function useFindings(view) {
    const panelId = app.__fosp__.usePanelId();
    const trigger = app.__foo__.usePanelEvent();
    const id = [panelId, view.uid, view.searched].join(" ");
    const [, redraw] = React.useReducer((count) => count + 1, 0);
    const asked = React.useRef(0);
    const state = kept.get(id) ?? empty();
    const change = (next) => {
      kept.set(id, next(kept.get(id) ?? empty()));
      redraw();
    };
    const ask = (question, params, done) => trigger(panelId, {
      operator: view.ask,
      params: { ...params, question, run: view.run, uid: view.uid },
      callback: (reply) => {
        done(reply.result ?? { problem: LOST, stale: false });
      }
    });
    const load = (place) => {
      asked.current += 1;
      const number = asked.current;
      change((now) => ({ ...now, place, problem: null }));
      ask("findings", place, (answer) => {
        if (number !== asked.current) return;
        if (answer.problem === void 0) change((now) => listed(now, answer));
        else change((now) => ({ ...now, problem: answer.problem }));
      });
    };
    const settle = (key, wanted) => {
      const { pending, previous } = verdictOf(state, key);
      if (pending || wanted === "undo" && !previous) return;
      change((now) => settling(now, key, wanted));
      const question = wanted === "accepted" ? "accept" : wanted === "rejected" ? "reject" : "undo";
      const shown = state.list?.findings.map((finding) => finding.key) ?? [];
      ask(question, { finding: key, shown, entries: previous }, (answer) => {
        if (answer.problem === void 0) change((now) => settled(now, key, answer));
        else change((now) => refused(now, key, answer.problem));
      });
    };
    const open = (finding, item) => trigger(panelId, {
      operator: view.mark,
      params: { mark: "finding", finding, ...item === void 0 ? {} : { item } },
      callback: () => void 0
    });
    React.useEffect(() => {
      if (!kept.get(id)?.list) load(FIRST);
    }, [id]);
    return { state, load, settle, open };
  }
  function Group(props) {
    const { group, pictures, open } = props;
    return /* @__PURE__ */ React.createElement("figure", { className: `sfam-f-group sfam-f-${group.role}` }, /* @__PURE__ */ React.createElement("figcaption", { dir: "auto" }, group.title), /* @__PURE__ */ React.createElement("div", null, group.items.map((item) => {
      const picture = pictures[item];
      const label = picture?.label ?? "";
      const title = picture?.problem ? `${label}: ${picture.problem}` : label;
      return /* @__PURE__ */ React.createElement(
        "button",
        {
          key: item,
          type: "button",
          className: "sfam-f-picture",
          "data-item": item,
          title,
          onClick: () => open(item)
        },
        picture?.url ? /* @__PURE__ */ React.createElement("img", { src: picture.url, alt: `${group.title}: ${label}` }) : /* @__PURE__ */ React.createElement("span", { className: "sfam-f-missing" }, picture?.problem ?? "No picture."),
        /* @__PURE__ */ React.createElement("span", { dir: "auto" }, label)
      );
    }), group.more > 0 && /* @__PURE__ */ React.createElement("span", { className: "sfam-f-more" }, "+", group.more)));
  }
  var SIGNS = { "": "", accepted: "✓ accepted", rejected: "✗ rejected" };
  function Entry(props) {
    const { finding, verdict, pictures, settle, open, step } = props;
    const { answer, pending, previous, problem } = verdict;
    const onKeyDown = (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const key = event.key.toLowerCase();
      if (finding.can_settle && key === "a") settle("accepted");
      else if (finding.can_settle && key === "r") settle("rejected");
      else if (key === "u") settle("undo");
      else if (!step(event.key)) return;
      event.preventDefault();
      event.stopPropagation();
    };
    const button = (label, wanted, hint) => /* @__PURE__ */ React.createElement(
      "button",
      {
        type: "button",
        "aria-pressed": wanted === "undo" ? void 0 : answer === wanted,
        "aria-disabled": pending,
        title: hint,
        onClick: () => settle(wanted)
      },
      label
    );
    return /* @__PURE__ */ React.createElement("article", { "data-finding": finding.key, "aria-label": finding.sentence, onKeyDown }, /* @__PURE__ */ React.createElement("header", null, /* @__PURE__ */ React.createElement("strong", null, finding.kind), /* @__PURE__ */ React.createElement("span", null, finding.probable ? "probability" : "score", " ", finding.score), answer && /* @__PURE__ */ React.createElement("span", { className: `sfam-f-${answer}` }, SIGNS[answer])), /* @__PURE__ */ React.createElement("div", { className: "sfam-f-groups" }, finding.groups.map((group) => /* @__PURE__ */ React.createElement(Group, { key: group.title, group, pictures, open }))), /* @__PURE__ */ React.createElement("p", { dir: "auto" }, finding.sentence), /* @__PURE__ */ React.createElement("p", { dir: "auto" }, /* @__PURE__ */ React.createElement("b", null, "Proposal:"), " ", finding.proposal, " ", finding.note), /* @__PURE__ */ React.createElement("div", { className: "sfam-f-buttons" }, finding.can_settle && button("Accept", "accepted", "Accept the proposal (A)"), finding.can_settle && button("Reject", "rejected", "Reject the proposal (R)"), previous && button("Undo", "undo", "Take the verdict back (U)"), /* @__PURE__ */ React.createElement(
      "button",
      {
        type: "button",
        title: "Show its pairs, and its images in the grid",
        onClick: () => open()
      },
      "Show pairs"
    )), problem && /* @__PURE__ */ React.createElement("p", { role: "alert" }, problem));
  }
  function Controls(props) {
    const { state, list, load } = props;
    const turn = (by, label) => {
      const place = turned(state.place, list.total, by);
      return /* @__PURE__ */ React.createElement("button", { type: "button", disabled: !place, onClick: () => place && load(place) }, label);
    };
    const all = { ...state.place, start: 0 };
    return /* @__PURE__ */ React.createElement("nav", { "aria-label": "Findings" }, /* @__PURE__ */ React.createElement("label", null, "Kind", " ", /* @__PURE__ */ React.createElement(
      "select",
      {
        value: state.place.kind ?? "",
        onChange: (event) => load({ ...all, kind: event.target.value || null })
      },
      /* @__PURE__ */ React.createElement("option", { value: "" }, "all kinds"),
      list.kinds.map((kind) => /* @__PURE__ */ React.createElement("option", { key: kind.name, value: kind.name }, kind.label))
    )), /* @__PURE__ */ React.createElement("label", null, "At least", " ", /* @__PURE__ */ React.createElement(
      "select",
      {
        value: state.place.min_probability,
        onChange: (event) => load({ ...all, min_probability: Number(event.target.value) })
      },
      [0, 0.5, 0.7, 0.9].map((least) => /* @__PURE__ */ React.createElement("option", { key: least, value: least }, least ? least.toFixed(1) : "any score"))
    )), /* @__PURE__ */ React.createElement("span", null, shownRange(state.place, list)), turn(-1, "Previous"), turn(1, "Next"));
  }
  function SfamFindings(props) {
    const { state, load, settle, open } = useFindings(props.schema.view);
    const root = React.useRef(null);
    const { list, problem } = state;
    const step = (at) => (key) => {
      const to = stepped(key, at, list?.findings.length ?? 0);
      const next = to === null ? null : root.current?.querySelectorAll("article")[to];
      next?.querySelector("button")?.focus();
      next?.scrollIntoView({ block: "nearest" });
      return to !== null;
    };
    return /* @__PURE__ */ React.createElement("div", { className: "sfam-f", "data-testid": "sfam-findings", ref: root }, /* @__PURE__ */ React.createElement("style", null, STYLE), problem && /* @__PURE__ */ React.createElement("p", { role: "alert" }, problem, " ", /* @__PURE__ */ React.createElement("button", { type: "button", onClick: () => load(state.place) }, "Try again")), !list && !problem && /* @__PURE__ */ React.createElement("p", null, "Looking up the findings …"), list && /* @__PURE__ */ React.createElement(Controls, { state, list, load }), list?.expected && /* @__PURE__ */ React.createElement("p", { role: "status" }, list.expected), list?.findings.map((finding, at) => /* @__PURE__ */ React.createElement(
      Entry,
      {
        key: finding.key,
        finding,
        verdict: verdictOf(state, finding.key),
        pictures: list.pictures,
        settle: (wanted) => settle(finding.key, wanted),
        open: (item) => open(finding.key, item),
        step: step(at)
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
