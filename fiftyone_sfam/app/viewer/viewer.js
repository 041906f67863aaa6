// Built from src/ by `make viewer`; do not edit.
"use strict";
(() => {
  // src/app.ts
  var app = globalThis;
  var { React } = app;

  // src/findings.css
  var findings_default = `/* The list of findings; its colors are the App's, light and dark. */
.sfam-f {
  --line: rgba(var(--fo-palette-common-onBackgroundChannel) / 0.3);
  --main: var(--fo-palette-primary-main);
  --soft: var(--fo-palette-text-secondary);
  font-size: 0.85rem;
  line-height: 1.45;
  color: var(--fo-palette-text-primary);
  display: grid;
  gap: 10px;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 500px), 1fr));
}
.sfam-f > nav,
.sfam-f > p {
  grid-column: 1 / -1;
}
.sfam-f p {
  margin: 0;
  overflow-wrap: anywhere;
  max-width: 100ch;
}
.sfam-f-row,
.sfam-f header {
  display: flex;
  flex-wrap: wrap;
  gap: 4px 12px;
  align-items: baseline;
}
.sfam-f article {
  display: grid;
  gap: 6px;
  align-content: start;
  padding: 10px 12px;
  border-radius: 4px;
  border: 1px solid var(--line);
  background: var(--fo-palette-background-level2);
}
.sfam-f :focus-visible {
  outline: 2px solid var(--main);
  outline-offset: 1px;
}
.sfam-f header span,
.sfam-f figure {
  color: var(--soft);
}
.sfam-f .sfam-f-accepted {
  color: color-mix(in srgb, #0a9a70 60%, var(--fo-palette-text-primary));
}
.sfam-f .sfam-f-rejected {
  color: color-mix(in srgb, #d9640f 60%, var(--fo-palette-text-primary));
}
.sfam-f label {
  display: inline-flex;
  gap: 4px;
  align-items: baseline;
}
.sfam-f-groups {
  display: flex;
  flex-wrap: wrap;
  gap: 8px 20px;
}
.sfam-f figure {
  margin: 0;
  min-width: 0;
  font-size: 0.76rem;
}
.sfam-f figcaption {
  max-width: 260px;
  overflow: hidden;
  text-overflow: ellipsis;
  white-space: nowrap;
}
.sfam-f figure > div {
  display: flex;
  flex-wrap: wrap;
  gap: 6px;
  align-items: center;
}
.sfam-f button,
.sfam-f select {
  font: inherit;
  color: inherit;
  cursor: pointer;
  background: transparent;
  border-radius: 4px;
  padding: 1px 8px;
  border: 1px solid var(--line);
}
.sfam-f option {
  color: #222;
  background: #fff;
}
.sfam-f button:hover {
  border-color: var(--main);
}
.sfam-f button[aria-disabled="true"] {
  opacity: 0.5;
  cursor: default;
}
.sfam-f button[aria-pressed="true"] {
  border-color: currentColor;
  font-weight: 600;
}
.sfam-f figure button {
  display: grid;
  justify-items: center;
  gap: 2px;
  padding: 3px;
  border-color: transparent;
}
.sfam-f-doubted img {
  outline: 2px solid var(--main);
}
.sfam-f img {
  height: 100px;
  min-width: 24px;
  max-width: 130px;
  object-fit: contain;
}
.sfam-f button span {
  max-width: 92px;
  overflow: hidden;
  text-overflow: ellipsis;
  white-space: nowrap;
}
.sfam-f button .sfam-f-missing {
  width: 92px;
  height: 100px;
  white-space: normal;
}
.sfam-f [role="alert"] {
  color: color-mix(
    in srgb,
    var(--fo-palette-error-main, #d32f2f) 70%,
    var(--fo-palette-text-primary)
  );
}
`;

  // src/client.ts
  var Problem = class extends Error {
    constructor() {
      super(...arguments);
      this.stale = false;
    }
  };
  var KEPT = { query: 40, correspondences: 8, rows: 40, live: 80 };
  var KEPT_OTHERS = 12;
  var PAUSES = [500, 1e3, 2e3, 4e3, 8e3];
  var URGENT = 4;
  var BACKGROUND = 1;
  var sleep = (ms) => new Promise((done) => setTimeout(done, ms));
  var keyOf = (question, params) => `${question} ${JSON.stringify(params)}`;
  function answerOf({ result, error, errorMessage }) {
    if (typeof error === "string")
      throw new Problem(`The server failed: ${String(errorMessage || error).split("\n")[0]}`);
    if (error || !result) return null;
    const { problem, stale = false } = result;
    if (problem !== void 0) throw Object.assign(new Problem(problem), { stale });
    return result;
  }
  var Client = class {
    constructor(pause = sleep) {
      this.pause = pause;
      this.send = () => void 0;
      this.version = 0;
      this.tasks = /* @__PURE__ */ new Map();
      // what was used last comes last
      this.running = 0;
      this.latest = /* @__PURE__ */ new Map();
      this.listeners = /* @__PURE__ */ new Set();
      this.subscribe = (listener) => {
        this.listeners.add(listener);
        return () => this.listeners.delete(listener);
      };
    }
    changed() {
      this.version += 1;
      for (const listener of [...this.listeners]) listener();
    }
    /** Ask, again and again where nothing comes back; reject with a Problem. */
    async ask(question, params, tries = 5) {
      for (const pause of [0, ...PAUSES.slice(0, tries)]) {
        if (pause) await this.pause(pause);
        const asked = { ...params, question };
        const reply = await new Promise((done) => this.send(asked, done));
        const answer = answerOf(reply);
        if (answer) return answer;
      }
      throw new Problem("The server of FiftyOne does not answer.");
    }
    /** Ask a question of which only the latest of a name counts: null for those before it. */
    async newest(name, question, params) {
      const mine = {};
      this.latest.set(name, mine);
      const asked = this.ask(question, params);
      await asked.catch(() => void 0);
      return this.latest.get(name) === mine ? asked : null;
    }
    /** Do without the latest of a name that is on its way. */
    drop(name) {
      this.latest.delete(name);
    }
    /** Return what is known of an answer, which `want` asks for. */
    read(question, params) {
      return this.tasks.get(keyOf(question, params)) ?? {};
    }
    /** Return all answers of a question that are kept. */
    values(question) {
      const known = [...this.tasks.values()].filter((task) => task.question === question);
      return known.flatMap(({ value }) => value === void 0 ? [] : [value]);
    }
    /** Ask for an answer unless it is there or on its way; what is urgent does not wait. */
    want(question, params, urgent = true) {
      const key = keyOf(question, params);
      const task = this.tasks.get(key) ?? { question, params, urgent, begun: false };
      task.urgent ||= urgent;
      this.tasks.delete(key);
      this.tasks.set(key, task);
      this.startNext();
    }
    /** Give up what was wanted for a pair that is not shown any more, and has not begun. */
    giveUp() {
      this.forget(({ begun, question }) => !begun && question !== "rows");
    }
    /** Start what is urgent, the newest first, then the rest. */
    startNext() {
      const tasks = [...this.tasks.values()].filter(({ begun }) => !begun);
      const urgent = tasks.filter((task) => task.urgent).reverse();
      for (const task of [...urgent, ...tasks.filter((one) => !one.urgent)])
        if (this.running < (task.urgent ? URGENT : BACKGROUND)) void this.start(task);
    }
    async start(task) {
      const { question, params } = task;
      this.running += 1;
      task.begun = true;
      await this.ask(question, params).then(
        (value) => Object.assign(task, { value }),
        (problem) => Object.assign(task, { problem })
      );
      this.running -= 1;
      const others = [...this.tasks].filter(([, one]) => one.question === question);
      const done = others.filter(([, one]) => one.value ?? one.problem);
      const spare = Math.max(done.length - (KEPT[question] ?? KEPT_OTHERS), 0);
      for (const [oldest] of done.slice(0, spare)) this.tasks.delete(oldest);
      this.startNext();
      this.changed();
    }
    /** Forget all answers, or some; what is on its way then comes to nothing. */
    forget(isMeant = () => true) {
      for (const [key, task] of this.tasks) if (isMeant(task)) this.tasks.delete(key);
    }
  };

  // src/optimistic.ts
  var MOST_UNDO = 100;
  var Optimistic = class {
    /** `listed` is what is known of a key besides; `changed` is called when verdicts are shown. */
    constructor(listed, changed) {
      this.listed = listed;
      this.changed = changed;
      this.version = 0;
      this.stored = /* @__PURE__ */ new Map();
      this.pending = [];
      this.given = [];
      this.last = Promise.resolve();
    }
    /** Return the verdict that is shown: pending, stored meanwhile, or as it was listed. */
    of(key, listed = this.listed(key)) {
      const known = [this.stored, ...this.pending].filter((verdicts) => verdicts.has(key));
      return known.length ? known[known.length - 1].get(key) : listed;
    }
    isPending(key) {
      return this.pending.some((verdicts) => key === void 0 || verdicts.has(key));
    }
    /** Return what was given last and can be taken back, to a key or to any. */
    undoable(key) {
      const able = this.given.filter(({ undone }) => !undone);
      return able.reverse().find(({ before }) => key === void 0 || before.has(key));
    }
    /** Show a verdict and store it after those before; reject where it is refused. */
    give(keys, verdict, store) {
      const before = new Map(keys.map((key) => [key, this.of(key)]));
      const given = { before, previous: Promise.resolve([]), undone: false };
      const request = `${Date.now()} ${Math.random()}`;
      const shown2 = new Map(keys.map((key) => [key, verdict]));
      const refused = () => Object.assign(given, { undone: true });
      const written = this.write(shown2, () => store(request), refused);
      given.previous = written.catch(() => []);
      this.given = [...this.given, given].slice(-MOST_UNDO);
      return written;
    }
    /** Show what was before and restore it, as soon as the verdict that it undoes is stored. */
    undo(given, store) {
      given.undone = true;
      const restore = async () => {
        const entries = await given.previous;
        return entries.length ? store(entries) : { verdicts: [], previous: [] };
      };
      return this.write(given.before, restore, () => Object.assign(given, { undone: false }));
    }
    /** Forget what was stored, which has been listed anew. */
    forget() {
      this.stored.clear();
    }
    show(pending) {
      this.pending = pending;
      this.version += 1;
      this.changed();
    }
    write(shown2, store, refused) {
      this.show([...this.pending, shown2]);
      const written = this.last.then(store).then(
        ({ verdicts, previous }) => {
          for (const [key, verdict] of verdicts) this.stored.set(key, verdict);
          return previous;
        },
        (problem) => {
          refused();
          throw problem;
        }
      );
      const done = () => this.show(this.pending.filter((one) => one !== shown2));
      this.last = written.then(done, done);
      return written;
    }
  };

  // src/findings_state.ts
  var FIRST = { start: 0, count: 8, kind: null, min_probability: 0 };
  var FindingsList = class {
    /** `run` has the key and the unique id of a run. */
    constructor(run, client = new Client()) {
      this.run = run;
      this.client = client;
      this.place = FIRST;
      this.answer = null;
      this.problem = null;
      this.refused = /* @__PURE__ */ new Map();
      // why, by finding
      this.verdicts = new Optimistic(
        (key) => this.answer?.findings.find((one) => one.key === key)?.answer ?? "",
        () => this.client.changed()
      );
    }
    async load(place) {
      Object.assign(this, { place, problem: null });
      this.client.changed();
      const asked = this.client.newest("findings", "findings", { ...this.run, ...place });
      const answer = await asked.catch(({ message }) => {
        this.problem = message;
      });
      if (answer) {
        this.answer = answer;
        this.refused.clear();
        this.verdicts.forget();
      }
      this.client.changed();
    }
    /** Accept or reject a finding, or take the last of that back. */
    async settle(finding, question) {
      const last = this.verdicts.undoable(finding);
      this.refused.delete(finding);
      const write = (more) => this.write(question, { finding, ...more });
      try {
        if (question !== "restore")
          await this.verdicts.give([finding], `${question}ed`, (request_id) => write({ request_id }));
        else if (last) await this.verdicts.undo(last, (entries) => write({ entries }));
      } catch (error) {
        this.refused.set(finding, error.message);
        this.client.changed();
      }
    }
    async write(question, params) {
      const shown2 = this.answer?.findings.map((one) => one.key);
      const now = await this.client.ask(question, { ...this.run, ...params, shown: shown2 });
      if (this.answer) this.answer.expected = now.expected;
      return now;
    }
  };
  function turned(place, total, by) {
    const start = place.start + by * place.count;
    const isThere = start > -place.count && start < total;
    return isThere ? { ...place, start: Math.max(0, start) } : null;
  }
  function stepped(key, at, count) {
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: count - 1 }[key];
    return to === void 0 ? null : Math.min(Math.max(to, 0), count - 1);
  }

  // src/panel.ts
  function useSend(operator) {
    const panelId = app.__fosp__.usePanelId();
    const trigger = app.__foo__.usePanelEvent();
    return (params, done) => {
      const callback = (reply) => {
        done(reply);
        return false;
      };
      trigger(panelId, { operator, params, callback });
    };
  }
  var kept = /* @__PURE__ */ new Map();
  function usePanel(ask, make, id = "") {
    const key = `${app.__fosp__.usePanelId()} ${id}`;
    const panel = kept.get(key) ?? make();
    kept.set(key, panel);
    panel.client.send = useSend(ask);
    React.useSyncExternalStore(panel.client.subscribe, () => panel.client.version);
    return panel;
  }
  function useFollow(session, ready, modal) {
    const read = (name) => app.recoil.useRecoilValue(app.__fos__[name]);
    const selected = [...read("selectedSamples").keys()];
    const open = read("nullableModalSampleId");
    const view = JSON.stringify([read("view"), read("filters")]);
    const samples = open && (modal || !selected.length) ? [open] : selected;
    const followed = samples.join(" ");
    const before = React.useRef({ followed: "", view });
    React.useEffect(() => {
      if (!ready) return;
      const last = before.current;
      before.current = { followed, view };
      if (followed !== last.followed) void session.follow(samples);
      const { spec, handed } = session.state;
      if (view !== last.view && spec.in_view && !handed) void session.requeue();
    }, [followed, view, ready]);
  }

  // src/parts.tsx
  function nameOf(text, none = "", className = "") {
    return /* @__PURE__ */ React.createElement("bdi", { className: `sfam-name ${className}`, dir: "auto", title: text ?? none }, text ?? none);
  }
  function labeled(...parts) {
    return React.createElement("label", { className: "sfam-pick" }, ...parts);
  }
  function pick(label, value, options, onPick, none) {
    const all = none === void 0 ? options : [{ name: "", label: none }, ...options];
    const choose = (name) => onPick(name === "" ? null : name);
    return labeled(
      label,
      /* @__PURE__ */ React.createElement("select", { "aria-label": label, value: value ?? "", onChange: ({ target }) => choose(target.value) }, all.map((option) => /* @__PURE__ */ React.createElement("option", { key: option.name, value: option.name }, option.label)))
    );
  }
  function tick(label, on, onTick) {
    return labeled(/* @__PURE__ */ React.createElement("input", { type: "checkbox", checked: on, onChange: () => onTick(!on) }), label);
  }
  function slide(label, value, onSlide) {
    const at = Math.round(value * 100);
    const change = (text) => onSlide(Number(text) / 100);
    const input = /* @__PURE__ */ React.createElement("input", { type: "range", value: at, onChange: ({ target }) => change(target.value) });
    return labeled(label, input);
  }
  function push(label, onPush, more = {}) {
    const { on, off, hint, testId, children = label } = more;
    const states = { "aria-pressed": on, "aria-disabled": off, "data-testid": testId };
    return /* @__PURE__ */ React.createElement("button", { key: label, type: "button", title: hint, "aria-label": label, onClick: onPush, ...states }, children);
  }
  function Field(props) {
    const { label, value, type: type2, onEnter } = props;
    const [text, setText] = React.useState(value);
    React.useEffect(() => setText(value), [value]);
    const enter = () => text !== value && onEnter(text);
    return labeled(
      label,
      /* @__PURE__ */ React.createElement(
        "input",
        {
          "aria-label": label,
          dir: "auto",
          type: type2,
          step: "any",
          value: text,
          onChange: ({ target }) => setText(target.value),
          onKeyDown: ({ key }) => key === "Enter" && enter(),
          onBlur: enter
        }
      )
    );
  }

  // src/findings.tsx
  var SIGNS = { accepted: "✓ accepted", rejected: "✗ rejected", "": "" };
  var LEAST = ["0.5", "0.7", "0.9"].map((name) => ({ name, label: name }));
  function groupOf({ list, open }, { role, title, items, more }) {
    const pictured = (item) => {
      const { url = "", label = "", problem = null } = list.answer?.pictures[item] ?? {};
      const missing = /* @__PURE__ */ React.createElement("span", { className: "sfam-f-missing" }, problem ?? "No picture.");
      return /* @__PURE__ */ React.createElement("button", { key: item, type: "button", "data-item": item, title: label, onClick: () => open(item) }, url ? /* @__PURE__ */ React.createElement("img", { src: url, alt: `${title}: ${label}` }) : missing, /* @__PURE__ */ React.createElement("span", { dir: "auto" }, label));
    };
    return /* @__PURE__ */ React.createElement("figure", { key: title, className: `sfam-f-${role}` }, /* @__PURE__ */ React.createElement("figcaption", { dir: "auto" }, title), /* @__PURE__ */ React.createElement("div", null, items.map(pictured), more > 0 && /* @__PURE__ */ React.createElement("span", null, "+", more)));
  }
  function Entry(props) {
    const { list, finding, open, step: step2 } = props;
    const { key, can_settle } = finding;
    const verdict = list.verdicts.of(key);
    const settle = (question) => void list.settle(key, question);
    const onKeyDown = (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (can_settle && event.key === "a") settle("accept");
      else if (can_settle && event.key === "r") settle("reject");
      else if (event.key === "u") settle("restore");
      else if (!step2(event.key)) return;
      event.preventDefault();
      event.stopPropagation();
    };
    const button = (label, question, hint) => push(label, () => settle(question), { hint, on: verdict === `${question}ed` });
    return /* @__PURE__ */ React.createElement("article", { "data-finding": key, "aria-label": finding.sentence, onKeyDown }, /* @__PURE__ */ React.createElement("header", null, /* @__PURE__ */ React.createElement("strong", null, finding.kind), /* @__PURE__ */ React.createElement("span", null, `${finding.probable ? "probability" : "score"} ${finding.score}`), /* @__PURE__ */ React.createElement("b", { className: `sfam-f-${verdict}` }, SIGNS[verdict]), list.verdicts.isPending(key) && /* @__PURE__ */ React.createElement("span", { role: "status" }, "Saving…")), /* @__PURE__ */ React.createElement("div", { className: "sfam-f-groups" }, finding.groups.map((group) => groupOf(props, group))), /* @__PURE__ */ React.createElement("p", { dir: "auto" }, finding.sentence), /* @__PURE__ */ React.createElement("p", { dir: "auto" }, /* @__PURE__ */ React.createElement("b", null, "Proposal:"), " ", finding.proposal, " ", finding.note), /* @__PURE__ */ React.createElement("div", { className: "sfam-f-row" }, can_settle && button("Accept", "accept", "Accept the proposal (A)"), can_settle && button("Reject", "reject", "Reject the proposal (R)"), list.verdicts.undoable(key) && push("Undo", () => settle("restore"), { hint: "(U)" }), push("Show pairs", () => open())), list.refused.has(key) && /* @__PURE__ */ React.createElement("p", { role: "alert" }, list.refused.get(key)));
  }
  function SfamFindings(props) {
    const { ask, mark, run, uid, searched } = props.schema.view;
    const make = () => new FindingsList({ run, uid });
    const list = usePanel(ask, make, `${uid} ${searched}`);
    const send = useSend(mark);
    const root = React.useRef(null);
    React.useEffect(() => {
      if (!list.answer) void list.load(FIRST);
    }, [list]);
    const { place, problem } = list;
    const { findings: findings2 = [], total = 0, kinds = [], expected } = list.answer ?? {};
    const first = { ...place, start: 0 };
    const least = (to) => list.load({ ...first, min_probability: Number(to) });
    const open = (finding) => (item) => send({ mark: "finding", finding, item: item ?? null }, () => void 0);
    const turn2 = (label, by) => {
      const to = turned(place, total, by);
      return push(label, () => to && list.load(to), { off: !to });
    };
    const step2 = (at) => (key) => {
      const to = stepped(key, at, findings2.length);
      const entry = to === null ? void 0 : root.current?.querySelectorAll("article")[to];
      entry?.querySelector("button")?.focus();
      return to !== null;
    };
    return /* @__PURE__ */ React.createElement("div", { className: "sfam-f", "data-testid": "sfam-findings", ref: root }, /* @__PURE__ */ React.createElement("style", null, findings_default), problem && /* @__PURE__ */ React.createElement("p", { role: "alert" }, problem, " ", push("Try again", () => list.load(place))), !list.answer && !problem && /* @__PURE__ */ React.createElement("p", null, "Looking up the findings …"), list.answer && /* @__PURE__ */ React.createElement("nav", { className: "sfam-f-row", "aria-label": "Findings" }, pick("Kind", place.kind, kinds, (kind) => list.load({ ...first, kind }), "all kinds"), pick("At least", String(place.min_probability || ""), LEAST, least, "any score"), /* @__PURE__ */ React.createElement("span", null, findings2.length && place.start + 1, " to ", place.start + findings2.length, " of ", total), turn2("Previous", -1), turn2("Next", 1)), expected && /* @__PURE__ */ React.createElement("p", { role: "status" }, expected), findings2.map((finding, at) => /* @__PURE__ */ React.createElement(Entry, { key: finding.key, ...{ list, finding, step: step2(at), open: open(finding.key) } })));
  }

  // src/handover.ts
  var EVENT = "sfam-pairs";
  var waiting = null;
  function onHandedOver(take) {
    const listener = () => {
      if (waiting) take(waiting);
      setTimeout(() => {
        waiting = null;
      });
    };
    listener();
    globalThis.addEventListener(EVENT, listener);
    return () => globalThis.removeEventListener(EVENT, listener);
  }
  function registerHandover() {
    class ViewPairs extends app.__foo__.Operator {
      get config() {
        const label = "Show pairs in the panel of pairs";
        return new app.__foo__.OperatorConfig({ name: "view_pairs", label, unlisted: true });
      }
      async execute({ params }) {
        waiting = params;
        globalThis.dispatchEvent(new CustomEvent(EVENT));
      }
    }
    app.__foo__.registerOperator(ViewPairs, "@fiftyone-sfam/sfam");
  }

  // src/geometry.ts
  var FIT = { scale: 1, x: 0.5, y: 0.5 };
  var LARGEST = 64;
  var SLIMMEST = 1 / 40;
  var SPREAD = 1.2;
  var WHATS = {
    overlay: ["overlay"],
    side: ["picture", "map"],
    maps: ["map"]
  };
  var clamp = (value, low, high) => Math.min(Math.max(value, low), high);
  function sizeOf(image) {
    const [rows, columns] = image.shape;
    const [w, h] = Math.min(...image.picture.full) > 0 ? image.picture.full : [columns, rows];
    return [Math.max(w, h * SLIMMEST), Math.max(h, w * SLIMMEST)];
  }
  function viewsOf(props, [width, height], split) {
    const { query: query2, neighbor, swipe, points } = props;
    const whats = WHATS[props.look.mode];
    const [a, b] = [sizeOf(query2), sizeOf(neighbor)];
    const [one, other] = [a[0] / a[1], b[0] / b[1]];
    const stacked = width < whats.length * Math.sqrt(one * other) * height;
    const needed = 2 * whats.length * SPREAD * height * Math.max(one, other);
    const used = stacked ? width : Math.min(width, needed);
    const [first, second] = halves({ x: (width - used) / 2, y: 0, width: used, height }, stacked);
    const sides = [
      ["query", query2, first, [0, 0, 1, 1]],
      ["neighbor", neighbor, second, [0, 0, swipe ? split : 1, 1]]
    ];
    if (swipe) sides.push(["swiped", swipe, second, [split, 0, 1, 1]]);
    return sides.flatMap(([side, image, half2, part]) => {
      const rooms = whats.length > 1 ? halves(half2, false) : [half2];
      return rooms.map((room, index) => {
        const at = placed(room, sizeOf(image), props.zoom);
        const frame = partOf(room, part);
        const cells = side === "swiped" ? null : points?.[side];
        const grid = cells ? { shape: cells.shape, rect: partOf(at, cells.box) } : null;
        return { side, what: whats[index], image, room, frame, at, grid };
      });
    });
  }
  function halves(whole, stacked) {
    return stacked ? [partOf(whole, [0, 0, 1, 0.495]), partOf(whole, [0, 0.505, 1, 1])] : [partOf(whole, [0, 0, 0.495, 1]), partOf(whole, [0.505, 0, 1, 1])];
  }
  function placed(room, [w, h], zoom) {
    const scale = zoom.scale * Math.min(room.width / w, room.height / h);
    return {
      x: room.x + room.width / 2 - zoom.x * w * scale,
      y: room.y + room.height / 2 - zoom.y * h * scale,
      width: w * scale,
      height: h * scale
    };
  }
  function partOf(whole, [left, top, right, bottom]) {
    return {
      x: whole.x + left * whole.width,
      y: whole.y + top * whole.height,
      width: (right - left) * whole.width,
      height: (bottom - top) * whole.height
    };
  }
  var contains = (rect, x, y) => x >= rect.x && y >= rect.y && x < rect.x + rect.width && y < rect.y + rect.height;
  function cellAt(x, y, { shape, rect }) {
    const row = Math.floor((y - rect.y) / rect.height * shape[0]);
    const column = Math.floor((x - rect.x) / rect.width * shape[1]);
    return contains(rect, x, y) ? { row, column } : null;
  }
  function cellRect({ row, column }, grid) {
    const [h, w] = [1 / grid.shape[0], 1 / grid.shape[1]];
    return partOf(grid.rect, [column * w, row * h, (column + 1) * w, (row + 1) * h]);
  }
  function bounded(scale, x, y) {
    const edge = 0.5 / scale;
    return { scale, x: clamp(x, edge, 1 - edge), y: clamp(y, edge, 1 - edge) };
  }
  function zoomAround(zoom, factor, u, v) {
    const scale = clamp(zoom.scale * factor, 1, LARGEST);
    const kept2 = zoom.scale / scale;
    return bounded(scale, u - (u - zoom.x) * kept2, v - (v - zoom.y) * kept2);
  }
  function matched(points, pin) {
    const [rows, columns] = points[pin.side].shape;
    if (pin.row >= rows || pin.column >= columns) return null;
    const side = pin.side === "query" ? "neighbor" : "query";
    const [otherRows, otherColumns] = points[side].shape;
    const count = otherRows * otherColumns;
    const at = pin.row * columns + pin.column;
    const [start, stride] = side === "neighbor" ? [at * count, 1] : [at, rows * columns];
    const values = Float32Array.from({ length: count }, (_, k) => points.values[start + k * stride]);
    const share = values.reduce((sum, value) => sum + value, 0);
    const limit = values.reduce((largest, value) => Math.max(largest, Math.abs(value)), 0);
    const most = values.reduce((best2, value, k) => value > values[best2] ? k : best2, 0);
    const best = { side, row: Math.floor(most / otherColumns), column: most % otherColumns };
    return { pin, values, share, limit, best: values[most] > 0 ? best : null };
  }
  function moved(points, from, [down, right]) {
    const [rows, columns] = points[from.side].shape;
    const row = clamp(from.row + down, 0, rows - 1);
    const column = clamp(from.column + right, 0, columns - 1);
    return { side: from.side, row, column };
  }

  // src/coloring.ts
  function colored(values, look, solid = false) {
    const { table, diverging, threshold } = look;
    const limit = look.limit > 0 ? look.limit : 1;
    const lowest = look.signed ? -1 : 0;
    const pixels = new Uint8ClampedArray(4 * values.length);
    for (let pixel = 0; pixel < values.length; pixel++) {
      const strength = clamp(values[pixel] / limit, lowest, 1);
      const size = Math.abs(strength);
      if (size < threshold) continue;
      const place = diverging ? (strength + 1) / 2 : Math.max(strength, 0);
      const at = 3 * Math.round(255 * place);
      pixels[4 * pixel] = table[at];
      pixels[4 * pixel + 1] = table[at + 1];
      pixels[4 * pixel + 2] = table[at + 2];
      pixels[4 * pixel + 3] = 255 * (solid ? 1 : Math.sqrt(size));
    }
    return pixels;
  }
  function resized(values, [rows, columns], [width, height]) {
    const result = new Float32Array(width * height);
    for (let y = 0; y < height; y++) {
      const down = clamp((y + 0.5) * rows / height - 0.5, 0, rows - 1);
      const above = columns * Math.floor(down);
      const below2 = columns * Math.ceil(down);
      for (let x = 0; x < width; x++) {
        const right = clamp((x + 0.5) * columns / width - 0.5, 0, columns - 1);
        const [before, after] = [Math.floor(right), Math.ceil(right)];
        const upper = mixed(values[above + before], values[above + after], right % 1);
        const lower = mixed(values[below2 + before], values[below2 + after], right % 1);
        result[y * width + x] = mixed(upper, lower, down % 1);
      }
    }
    return result;
  }
  var mixed = (first, second, part) => first + (second - first) * part;
  var BLUE = [86, 180, 233];
  var ORANGE = [255, 160, 20];
  var MATCHES = {
    table: Uint8Array.from({ length: 768 }, (_, at) => (at < 384 ? BLUE : ORANGE)[at % 3]),
    diverging: true,
    signed: true,
    threshold: 0,
    limit: 1
  };

  // src/formats.ts
  var COLORS = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442"];
  var HATCHED = "repeating-linear-gradient(45deg, #999999 0 4px, #d0d0d0 4px 7px)";
  var signedText = (value, digits) => (value < 0 ? "-" : "+") + Math.abs(value).toFixed(digits);
  var listScore = ({ list_score }) => list_score === null ? "" : `score in the list ${Number(list_score.toPrecision(5))}`;
  function shareText(share, score) {
    const percent = score > 0 ? `, ${(100 * share / score).toFixed(1)} %` : "";
    return `${signedText(share, 4)}${percent} of ${score.toFixed(3)}`;
  }
  function receiptParts(shares) {
    const sum = (sign) => shares.reduce((all, one) => all + Math.max(sign * one.value, 0), 0);
    const [below2, above] = [sum(-1), sum(1)];
    const percent = (value) => 100 * value / (below2 + above || 1);
    const named2 = shares.filter(({ remainder }) => !remainder);
    const parts = shares.map((share) => {
      const { name, value, area, remainder } = share;
      const covered = area > 0 ? ` (${Math.round(100 * area)} % of the area)` : "";
      const color = COLORS[named2.indexOf(share) % COLORS.length];
      return {
        name,
        text: signedText(value, 3) + covered,
        width: `${percent(Math.abs(value))}%`,
        background: remainder ? HATCHED : color,
        order: value < 0 ? -1 : 0
        // in the bar
      };
    });
    return { parts, zero: percent(below2), end: percent(above) };
  }

  // src/bars.tsx
  function Receipt({ shares, total }) {
    const { parts, zero, end } = React.useMemo(() => receiptParts(shares), [shares]);
    return /* @__PURE__ */ React.createElement("div", { "data-testid": "sfam-receipt", className: "sfam-receipt" }, /* @__PURE__ */ React.createElement("div", { className: "sfam-parts", "aria-hidden": true }, parts.map(({ name, text, ...style }) => /* @__PURE__ */ React.createElement("div", { key: name, title: `${name}: ${text}`, style })), /* @__PURE__ */ React.createElement("div", { className: "sfam-mark", style: { left: `${zero}%` } }), /* @__PURE__ */ React.createElement("div", { className: "sfam-mark", style: { left: `${end}%` } })), /* @__PURE__ */ React.createElement("ul", null, parts.map(({ name, text, background }) => /* @__PURE__ */ React.createElement("li", { key: name }, /* @__PURE__ */ React.createElement("span", { className: "sfam-swatch", style: { background } }), /* @__PURE__ */ React.createElement("bdi", null, name), " ", text)), /* @__PURE__ */ React.createElement("li", null, /* @__PURE__ */ React.createElement("span", { className: "sfam-swatch sfam-total" }), "= ", total.toFixed(3))));
  }
  function ColorBar({ look, unit }) {
    const high = look.limit > 0 ? look.limit : 1;
    const low = look.signed ? -high : 0;
    const values = Float32Array.from({ length: 65 }, (_, at) => low + (high - low) * at / 64);
    const pixels = colored(values, look, true);
    const colors = Array.from(values, (_, at) => {
      const [red, green, blue, alpha] = pixels.subarray(4 * at);
      return `rgb(${red} ${green} ${blue} / ${alpha ? 1 : 0})`;
    });
    const [first, last] = [low, high].map((value) => Number(value.toPrecision(3)));
    return /* @__PURE__ */ React.createElement(
      "div",
      {
        "data-testid": "sfam-colorbar",
        className: "sfam-colorbar",
        role: "img",
        "aria-label": `Colors from ${first} to ${last} ${unit}`
      },
      /* @__PURE__ */ React.createElement("div", { style: { background: `linear-gradient(90deg, ${colors.join(", ")})` } }),
      /* @__PURE__ */ React.createElement("div", { className: "sfam-marks" }, /* @__PURE__ */ React.createElement("span", null, first), " ", unit, " ", /* @__PURE__ */ React.createElement("span", null, last))
    );
  }

  // src/decode.ts
  var ARRAYS = { f4: Float32Array, f2: Uint16Array, i4: Int32Array, i1: Int8Array, u1: Uint8Array };
  function decode(encoded) {
    const { dtype, scale } = encoded;
    const values = new Float32Array(new ARRAYS[dtype](bytesOf(encoded).buffer));
    for (let at = 0; at < values.length; at++)
      if (dtype === "f2") values[at] = half(values[at]);
      else if (dtype === "i1") values[at] *= scale;
    return values;
  }
  var integers = (encoded) => new Int32Array(bytesOf(encoded, "i4").buffer);
  var colorTable = (encoded) => bytesOf(encoded, "u1");
  function bytesOf({ data, dtype, shape }, wanted = dtype) {
    if (dtype !== wanted) throw new Error(`Expected ${wanted}, got ${dtype}.`);
    const text = atob(data);
    const bytes = new Uint8Array(text.length);
    for (let at = 0; at < text.length; at++) bytes[at] = text.charCodeAt(at);
    const expected = shape.reduce((product, size) => product * size, ARRAYS[dtype].BYTES_PER_ELEMENT);
    const sizes = `${bytes.length} bytes instead of ${expected}`;
    if (expected !== bytes.length) throw new Error(`An array of shape ${shape} has ${sizes}.`);
    return bytes;
  }
  function half(bits) {
    const sign = bits & 32768 ? -1 : 1;
    const exponent = bits >> 10 & 31;
    const fraction = bits & 1023;
    if (exponent === 0) return sign * fraction * 2 ** -24;
    return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
  }

  // src/store.ts
  var BEST = "best";
  var MOST_CHOSEN = 1e3;
  var CHOICES = {
    kind: BEST,
    // or the name of a kind of map
    channel: null,
    // number of the channel, of the kind "channel"
    signed: false,
    colors: "",
    // the first that fits
    opacity: 0.6,
    threshold: 0,
    smooth: true,
    mode: "overlay",
    loupe: false,
    swipe: false,
    strip: false,
    // whether the map is drawn on the strip too
    region: null
    // field that divides the similarity
  };
  var OF_RUN = {
    spec: {},
    queue: null,
    place: 0,
    // in the queue
    pair: null,
    outside: false,
    // what is shown was not reached through the queue
    two: null,
    zoom: FIT,
    pins: [],
    chosen: /* @__PURE__ */ new Set(),
    // pairs of the queue
    anchor: 0
    // where a range of chosen pairs starts
  };
  var START = {
    ...OF_RUN,
    opened: null,
    run: null,
    handed: null,
    choices: CHOICES,
    filters: false,
    // whether the panes are open
    help: false,
    advance: true,
    // whether a verdict turns to the next pair
    message: null
  };
  function opened(state, answer) {
    const kept2 = { ...state, opened: answer, run: answer.run, message: null };
    if (state.run && state.run.uid === answer.run?.uid) return kept2;
    const handed = state.handed && state.handed.uid === answer.run?.uid ? state.handed : null;
    const { in_view = false } = state.spec;
    const choices = { ...state.choices, region: null, channel: null };
    return { ...kept2, ...OF_RUN, spec: { in_view }, handed, choices };
  }
  function queued(before, queue) {
    const state = { ...before, queue };
    const { pairs: pairs2 } = queue;
    const place = state.pair === null ? -1 : pairs2.indexOf(state.pair);
    if (place >= 0) return { ...state, place, outside: false };
    if (state.pair !== null && state.outside) return { ...state, place: 0 };
    return { ...state, place: 0, pair: pairs2[0] ?? null, outside: false, pins: [], zoom: FIT };
  }
  function toPlace(state, place) {
    const pairs2 = state.queue?.pairs ?? [];
    const at = Math.min(Math.max(place, 0), pairs2.length - 1);
    const pair = pairs2[at];
    if (pair === void 0) return state;
    return shown(state, pair, { place: at, outside: false, pins: [] });
  }
  var toPair = (state, by) => toPlace(state, state.place + (state.outside ? 0 : by));
  var toQuery = (state, by) => toPlace(state, placeOfQuery(state, by));
  var toNeighbor = (state, pair) => shown(state, pair, { pins: state.pins.filter((pin) => pin.side === "query") });
  function located(state, pair) {
    const place = state.queue?.pairs.indexOf(pair) ?? -1;
    return place < 0 ? shown(state, pair, { outside: true, pins: [] }) : toPlace(state, place);
  }
  function shown(state, pair, change) {
    return { ...state, ...change, pair, two: null, message: null };
  }
  function soon(state) {
    const next = placeOfQuery(state, 1);
    const places = [state.place + 1, next, placeOfQuery(state, 1, next), placeOfQuery(state, -1)];
    const pairs2 = places.map((at) => at === state.place ? void 0 : state.queue?.pairs[at]);
    return [...new Set(pairs2)].filter((pair) => pair !== void 0);
  }
  function placeOfQuery(state, by, from = state.place) {
    const queries = state.queue?.queries ?? [];
    let at = from;
    while (at >= 0 && at < queries.length && queries[at] === queries[from]) at += by;
    if (at < 0 || at >= queries.length) return from;
    while (by < 0 && at > 0 && queries[at - 1] === queries[at]) at -= 1;
    return at;
  }
  function chosen(state, change) {
    const choices = { ...state.choices, ...change };
    const unit = (value) => Math.min(Math.max(Math.round(value * 100) / 100, 0), 1);
    const [opacity2, threshold] = [unit(choices.opacity), unit(choices.threshold)];
    return { ...state, choices: { ...choices, opacity: opacity2, threshold } };
  }
  function marked(state, place, how) {
    const pairs2 = state.queue?.pairs ?? new Int32Array();
    const pair = pairs2[place];
    if (pair === void 0) return state;
    if (how === "one") return { ...toPlace(state, place), chosen: /* @__PURE__ */ new Set(), anchor: place };
    const anchor = how === "toggle" ? place : state.anchor;
    const range = pairs2.subarray(Math.min(anchor, place), Math.max(anchor, place) + 1);
    const chosen2 = new Set([...state.chosen, ...range].slice(0, MOST_CHOSEN + 1));
    if (how === "toggle" && state.chosen.has(pair)) chosen2.delete(pair);
    if (chosen2.size <= MOST_CHOSEN) return { ...state, chosen: chosen2, anchor };
    const text = `At most ${MOST_CHOSEN} pairs can be selected; the first ${MOST_CHOSEN} are.`;
    const message = { text, retry: false };
    return { ...state, chosen: new Set([...chosen2].slice(0, MOST_CHOSEN)), anchor, message };
  }

  // src/keys.ts
  var step = (session, by) => session.become(toPair(session.state, by));
  var query = (session, by) => session.become(toQuery(session.state, by));
  var turn = (session, by) => session.turn(by);
  var digit = (session, _, key) => session.giveDigit(key);
  var opacity = (session, by) => session.choose({ opacity: session.state.choices.opacity + by / 10 });
  var toggle = (name) => {
    return (session) => session.choose({ [name]: !session.state.choices[name] });
  };
  var KEYS = [
    ["↓ ↑", "Next and previous pair of the queue", "ArrowDown ArrowUp", step],
    ["→ ←", "Next and previous neighbor of the query", "ArrowRight ArrowLeft", turn],
    ["Page ↓ ↑", "Next and previous query", "PageDown PageUp", query],
    ["1–9", "Give a verdict, to the selected pairs if there are any", "1 2 3 4 5 6 7 8 9", digit],
    ["U", "Undo the last verdict", "u", (session) => session.undo()],
    ["M", "Next map", "m", (session) => session.nextMap()],
    ["+ −", "Opacity of the map", "+ -", opacity],
    ["F", "Filters", "f", (session) => session.set({ filters: !session.state.filters })],
    ["S", "Swipe between this neighbor and the next", "s", toggle("swipe")],
    ["L", "Loupe", "l", toggle("loupe")],
    ["0", "Zoom to fit", "0", (session) => session.set({ zoom: FIT })],
    ["Shift ↓ ↑ → ←", "Move a cursor over the image"],
    ["Space, Enter", "Move the cursor to its match on the other image, pin its place"],
    ["Esc", "Close, drop the selection, drop the pins", "Escape", (session) => session.close()],
    ["?", "These keys", "?", (session) => session.set({ help: !session.state.help })]
  ];
  function commandOf(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || isField(event.target)) return null;
    if (event.shiftKey && event.key.length > 1) return null;
    const key = event.key === "=" ? "+" : event.key;
    const name = key.length === 1 ? key.toLowerCase() : key;
    for (const [, , names = "", command] of KEYS) {
      const at = names.split(" ").indexOf(name);
      if (command && at >= 0) return (session) => command(session, at ? -1 : 1, name);
    }
    return null;
  }
  function isField(target) {
    const element = target;
    if (!element?.tagName) return false;
    if (element.isContentEditable || /^(TEXTAREA|SELECT)$/.test(element.tagName)) return true;
    return element.tagName === "INPUT" && !/^(checkbox|button)$/.test(element.type ?? "");
  }

  // src/pictures.ts
  var KEPT2 = 96;
  var pictures = /* @__PURE__ */ new Map();
  function pictureOf(url, then) {
    const loaded = pictures.get(url) ?? load(url);
    pictures.delete(url);
    pictures.set(url, loaded);
    if (then && loaded.state === "loading") loaded.waiting.add(then);
    const [oldest = url] = pictures.keys();
    if (pictures.size > KEPT2) pictures.delete(oldest);
    return loaded;
  }
  function load(url) {
    const loaded = { image: new Image(), state: "loading", waiting: /* @__PURE__ */ new Set() };
    const end = (state) => () => {
      loaded.state = state;
      for (const call of loaded.waiting) call();
      loaded.waiting.clear();
    };
    loaded.image.src = url;
    loaded.image.decode().then(end("ready"), end("broken"));
    return loaded;
  }
  function preload(urls) {
    for (const url of urls) if (url) pictureOf(url);
  }

  // src/painting.ts
  var DETAIL = 192;
  var PIXELATED = 8;
  var MAGNIFIED = 3;
  var LOUPE = 128;
  var DOT = 6;
  function paintViews(ctx, { views, look }) {
    for (const view of views) clipped(ctx, view.frame, () => paintView(ctx, view, look));
    return views.every(({ image }) => pictureOf(image.picture.url).state !== "loading");
  }
  function clipped(ctx, { x, y, width, height }, draw) {
    ctx.save();
    ctx.beginPath();
    ctx.rect(x, y, width, height);
    ctx.clip();
    draw();
    ctx.restore();
  }
  function paintView(ctx, { what, image, at }, look) {
    if (what !== "map") paintPicture(ctx, image, at);
    if (what !== "picture") paintMap(ctx, image, at, look, what === "map");
  }
  function paintMap(ctx, image, at, look, alone = false) {
    if (!image.values) return;
    ctx.globalAlpha = alone ? 1 : look.opacity;
    const map = mapOf(image, image.values, look, alone);
    drawScaled(ctx, map, partOf(at, image.box), look.smooth);
    ctx.globalAlpha = 1;
  }
  function paintCard(canvas, image, look) {
    const { width, height } = image.picture;
    Object.assign(canvas, { width, height });
    paintMap(canvas.getContext("2d"), image, { x: 0, y: 0, width, height }, look);
  }
  function paintPicture(ctx, image, at) {
    const loaded = pictureOf(image.picture.url);
    if (loaded.state !== "ready") return;
    drawScaled(ctx, loaded.image, at, at.width < PIXELATED * loaded.image.naturalWidth);
  }
  function drawScaled(ctx, source, at, smooth) {
    ctx.imageSmoothingEnabled = smooth;
    ctx.imageSmoothingQuality = "low";
    ctx.drawImage(source, at.x, at.y, at.width, at.height);
  }
  var maps = /* @__PURE__ */ new WeakMap();
  function mapOf(image, values, look, solid) {
    const { table, limit, signed, threshold } = look;
    const [rows, columns] = image.shape;
    const detail = look.smooth ? Math.ceil(DETAIL / Math.max(rows, columns)) : 1;
    const size = [columns * detail, rows * detail];
    const key = [size, limit, signed, threshold, solid].join();
    const kept2 = maps.get(values);
    if (kept2?.key === key && kept2.table === table) return kept2.map;
    const map = canvasOf(colored(resized(values, image.shape, size), look, solid), size);
    maps.set(values, { key, table, map });
    return map;
  }
  function canvasOf(pixels, [width, height]) {
    const canvas = document.createElement("canvas");
    canvas.width = width;
    canvas.height = height;
    canvas.getContext("2d")?.putImageData(new ImageData(pixels, width, height), 0, 0);
    return canvas;
  }
  function paintMatch(ctx, { views, look }, match) {
    const pixels = colored(match.values, { ...MATCHES, limit: match.limit });
    for (const { side, what, image, frame, at, grid } of views) {
      if (!grid || side === match.pin.side) continue;
      const [rows, columns] = grid.shape;
      clipped(ctx, frame, () => {
        if (what !== "map") paintPicture(ctx, image, at);
        ctx.fillStyle = what === "map" ? "#282828" : "rgb(0 0 0 / 0.55)";
        ctx.fillRect(at.x, at.y, at.width, at.height);
        drawScaled(ctx, canvasOf(pixels, [columns, rows]), grid.rect, look.smooth);
      });
    }
    outline(ctx, views, match.pin, "#ffffff");
    if (match.best) outline(ctx, views, match.best, "#ffffff");
  }
  function outline(ctx, views, pin, color) {
    for (const { side, frame, grid } of views) {
      if (!grid || side !== pin.side) continue;
      const { x, y, width, height } = cellRect(pin, grid);
      clipped(ctx, frame, () => stroke(ctx, color, () => ctx.rect(x, y, width, height)));
    }
  }
  function stroke(ctx, color, path) {
    ctx.beginPath();
    path();
    ctx.lineWidth = 4;
    ctx.strokeStyle = "rgb(0 0 0 / 0.7)";
    ctx.stroke();
    ctx.lineWidth = 2;
    ctx.strokeStyle = color;
    ctx.stroke();
  }
  function middleOf(views, pin) {
    const { frame, grid } = views.find(({ side }) => side === pin.side);
    const cell = cellRect(pin, grid);
    const { x, y, width, height } = frame;
    const middle = [cell.x + cell.width / 2, cell.y + cell.height / 2];
    return [clamp(middle[0], x, x + width), clamp(middle[1], y, y + height)];
  }
  function paintPin(ctx, views, match, index) {
    const color = COLORS[(index + 1) % COLORS.length];
    const [x, y] = middleOf(views, match.pin);
    outline(ctx, views, match.pin, color);
    if (match.best) {
      const end = middleOf(views, match.best);
      outline(ctx, views, match.best, color);
      stroke(ctx, color, () => {
        ctx.moveTo(x, y);
        ctx.lineTo(...end);
      });
    }
    stroke(ctx, color, () => ctx.arc(x, y, DOT, 0, 2 * Math.PI));
    ctx.fillStyle = color;
    ctx.fill();
  }
  function paintLoupe(ctx, view, look, u, v) {
    const { x, y, width, height } = partOf(view.at, [u, v, u + MAGNIFIED, v + MAGNIFIED]);
    if (!contains(view.frame, x, y)) return;
    const at = { x: x - u * width, y: y - v * height, width, height };
    const frame = { x: x - LOUPE / 2, y: y - LOUPE / 2, width: LOUPE, height: LOUPE };
    clipped(ctx, frame, () => {
      ctx.fillStyle = "#808080";
      ctx.fillRect(frame.x, frame.y, LOUPE, LOUPE);
      paintView(ctx, { ...view, at, what: view.what === "map" ? "map" : "picture" }, look);
    });
    stroke(ctx, "#ffffff", () => ctx.rect(frame.x, frame.y, LOUPE, LOUPE));
  }

  // src/strip.tsx
  function outcomeOf(opened2, name, words = false) {
    const outcome = opened2?.outcomes.find((one) => one.name === name);
    return /* @__PURE__ */ React.createElement("span", { className: "sfam-outcome", style: { background: outcome?.color }, title: outcome?.label }, /* @__PURE__ */ React.createElement("span", { "aria-hidden": "true" }, outcome?.sign, " "), /* @__PURE__ */ React.createElement("span", { className: words ? "" : "sfam-unseen" }, outcome?.label ?? name));
  }
  function describe(one) {
    const scores2 = `Rank ${one.rank}, similarity ${one.similarity.toFixed(4)}, ${one.outcome}`;
    const best = one.best_true ? ", nearest true match" : "";
    return `${scores2}${best}, ${one.identity ?? "no identity"}`;
  }
  function Strip({ session, shown: shown2, paint }) {
    const list = React.useRef(null);
    React.useEffect(() => {
      const strip = list.current;
      const current = strip.querySelector('[aria-current="true"]');
      if (current) strip.scrollLeft = current.offsetLeft - strip.clientWidth / 2;
    }, [shown2.neighbor.pair]);
    return /* @__PURE__ */ React.createElement("div", { className: "sfam-strip", role: "group", "aria-label": "Neighbors of the query", ref: list }, shown2.query.neighbors.map((one) => /* @__PURE__ */ React.createElement(
      "button",
      {
        type: "button",
        key: one.pair,
        className: one.best_true ? "sfam-card sfam-true" : "sfam-card",
        "data-testid": "sfam-strip-item",
        "data-pair": one.pair,
        "aria-current": one.pair === shown2.neighbor.pair,
        "aria-label": describe(one),
        title: describe(one),
        onClick: () => session.become(toNeighbor(session.state, one.pair))
      },
      /* @__PURE__ */ React.createElement("img", { src: one.picture.url || void 0, alt: "", draggable: false }),
      paint && /* @__PURE__ */ React.createElement("canvas", { ref: (canvas) => canvas && paint(one, canvas) }),
      /* @__PURE__ */ React.createElement("span", { className: "sfam-line" }, outcomeOf(session.state.opened, one.outcome), " ", one.rank, one.best_true && /* @__PURE__ */ React.createElement("b", null, " ★")),
      /* @__PURE__ */ React.createElement("span", null, one.similarity.toFixed(3))
    )));
  }

  // src/queue.tsx
  var HEIGHT = 60;
  var SETTLED = 80;
  function rowOf(session, place, pair) {
    const { chosen: chosen2, opened: opened2, outside, two, queue } = session.state;
    const row = session.row(place);
    const verdict = session.verdicts.of(pair, row?.verdict);
    return /* @__PURE__ */ React.createElement(
      "div",
      {
        key: place,
        className: "sfam-row",
        style: { top: place * HEIGHT, height: HEIGHT },
        role: "option",
        tabIndex: -1,
        id: `sfam-row-${place}`,
        "aria-selected": chosen2.has(pair),
        "aria-current": place === session.state.place && !outside && !two,
        "aria-posinset": place + 1,
        "aria-setsize": queue?.pairs.length,
        "data-testid": "sfam-queue-row",
        "data-pair": pair,
        onClick: ({ shiftKey, ctrlKey, metaKey }) => {
          const how = shiftKey ? "range" : ctrlKey || metaKey ? "toggle" : "one";
          session.become(marked(session.state, place, how));
        },
        onKeyDown: () => void 0
      },
      row?.pictures.map(({ url }, side) => /* @__PURE__ */ React.createElement("img", { key: side ? "neighbor" : "query", src: url || void 0, alt: "" })),
      row && /* @__PURE__ */ React.createElement("div", { className: "sfam-cells" }, /* @__PURE__ */ React.createElement("span", { className: "sfam-line" }, outcomeOf(opened2, row.outcome), " rank ", row.rank, ", ", row.similarity.toFixed(3)), /* @__PURE__ */ React.createElement("span", { className: "sfam-line" }, nameOf(row.identity, "?"), " → ", nameOf(row.neighbor_identity, "?")), /* @__PURE__ */ React.createElement("span", { className: "sfam-line" }, listScore(row), " ", verdict !== null && nameOf(verdict, "", "sfam-own")))
    );
  }
  function QueueList({ session }) {
    const { queue, place, handed, spec, chosen: chosen2, filters, opened: opened2 } = session.state;
    const list = React.useRef(null);
    const [seen, setSeen] = React.useState({ top: 0, height: 600 });
    const look = () => {
      const { scrollTop: top = 0, clientHeight: height = 600 } = list.current ?? {};
      setSeen({ top, height });
    };
    const pairs2 = queue?.pairs ?? new Int32Array();
    const first = Math.max(Math.floor(seen.top / HEIGHT) - 2, 0);
    const last = Math.min(Math.ceil((seen.top + seen.height) / HEIGHT) + 2, pairs2.length - 1);
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
    const rows = [...pairs2.subarray(first, last + 1)];
    const orders = opened2?.orders ?? [];
    const reorder = (order) => session.filter({ order: order ?? "" });
    const toggle2 = () => session.set({ filters: !filters });
    return /* @__PURE__ */ React.createElement("section", { className: "sfam-queue", "aria-label": "Queue" }, /* @__PURE__ */ React.createElement("div", { className: "sfam-tools" }, /* @__PURE__ */ React.createElement("b", { "data-testid": "sfam-place" }, pairs2.length && place + 1, " of ", pairs2.length), handed && nameOf(handed.title), handed && push("Leave these pairs", () => session.leaveHanded()), !handed && queue && /* @__PURE__ */ React.createElement("span", null, queue.reviewed, " reviewed"), !handed && pick("Order", spec.order ?? orders[0]?.name, orders, reorder), !handed && push("Filters", toggle2, { hint: "Filters (F)", on: filters }), chosen2.size > 0 && push("Drop selection", () => session.set({ chosen: /* @__PURE__ */ new Set() }))), filters && !handed && filterBar(session), queue?.note && /* @__PURE__ */ React.createElement("p", { "data-testid": "sfam-queue-note" }, queue.note), /* @__PURE__ */ React.createElement(
      "div",
      {
        className: "sfam-list",
        ref: list,
        onScroll: look,
        role: "listbox",
        tabIndex: 0,
        "aria-label": "Pairs",
        "aria-multiselectable": "true",
        "aria-activedescendant": `sfam-row-${place}`,
        "data-testid": "sfam-queue"
      },
      /* @__PURE__ */ React.createElement("div", { style: { height: pairs2.length * HEIGHT } }, rows.map((pair, at) => rowOf(session, first + at, pair)))
    ));
  }
  function filterBar(session) {
    const { opened: opened2, run, spec } = session.state;
    if (!opened2 || !run) return null;
    const cameras = run.cameras.map((name) => ({ name, label: name }));
    const choose = (label, name, options, none) => {
      const value = spec[name] ?? null;
      if (!options.length && value === null) return null;
      return pick(label, value, options, (one) => session.filter({ [name]: one }), none);
    };
    const field = (label, name, type2) => {
      const read = (text) => text === "" ? null : type2 === "text" ? text : Number(text);
      const enter = (text) => void session.filter({ [name]: read(text) });
      return /* @__PURE__ */ React.createElement(Field, { label, type: type2, value: String(spec[name] ?? ""), onEnter: enter });
    };
    return /* @__PURE__ */ React.createElement("div", { className: "sfam-tools", role: "group", "aria-label": "Filters" }, choose("Outcome", "outcome", opened2.outcomes, "any"), choose("Ranks", "ranks", opened2.ranks), choose("Review", "reviewed", opened2.reviewed, "any"), choose("Suspects", "suspect", run.suspects, "any"), choose("Query camera", "query_camera", cameras, "any"), choose("Neighbor camera", "neighbor_camera", cameras, "any"), field("Similarity from", "min_similarity", "number"), field("to", "max_similarity", "number"), field("Identity", "identity", "text"), tick("Only the view", spec.in_view ?? false, (in_view) => session.filter({ in_view })), push("Clear filters", () => session.filter(null)));
  }

  // src/same.ts
  function same(one, other) {
    if (Object.is(one, other)) return true;
    if (typeof one === "function") return typeof other === "function";
    if (!isPlain(one) || !isPlain(other)) return false;
    const keys = Object.keys(one);
    return keys.length === Object.keys(other).length && keys.every((key) => same(one[key], other[key]));
  }
  function isPlain(value) {
    return Array.isArray(value) || Object.prototype.toString.call(value) === "[object Object]";
  }

  // src/session.ts
  var FINE = ["scales", "path"];
  var CHANNEL = "channel";
  var PAGE = 30;
  var LARGE = 1600;
  var ZOOMED = 1.5;
  var REST = 150;
  var mapsOf = (one) => ({ ...one.query_side?.maps, ...one.neighbor_side?.maps });
  var Session = class {
    constructor(client = new Client()) {
      this.client = client;
      this.state = START;
      this.verdicts = this.noVerdicts();
      this.last = null;
      this.rested = null;
      /** Return the map of a kind of a pair, if it has been computed. */
      this.live = (kind, pair) => this.client.read("live", this.liveParams(kind, pair)).value;
      this.points = (pair) => this.client.read("correspondences", this.about(pair));
      this.pictureParams = (item) => this.of({ item, size: LARGE });
      this.channels = (pair) => this.client.read("channels", this.of({ pair })).value;
    }
    become(state) {
      const isOther = state.pair !== this.state.pair;
      this.state = state;
      if (isOther) {
        this.client.giveUp();
        this.resting = void clearTimeout(this.resting);
      }
      this.client.changed();
    }
    set(change) {
      this.become({ ...this.state, ...change });
    }
    choose(change) {
      this.become(chosen(this.state, change));
    }
    /** Say why something failed; open again where the run was deleted or made anew. */
    async failed(error, what = "", retry = false) {
      const { stale, message } = error;
      if (stale) await this.open(this.state.run?.key);
      this.set({ message: { text: what + message, retry: retry && !stale } });
      return null;
    }
    /** Ask a question of which only the latest of a name counts. */
    newest(name, question, params) {
      const asked = this.client.newest(name, question, params);
      return asked.catch((error) => this.failed(error, "", true));
    }
    of(more = {}) {
      return { run: this.state.run?.key, uid: this.state.run?.uid, ...more };
    }
    // --- runs and queues ---------------------------------------------------------------------
    async open(run) {
      const opened2 = await this.newest("open", "open", run === void 0 ? {} : { run });
      if (!opened2) return;
      this.client.forget();
      if (opened2.run?.uid !== this.state.run?.uid) this.verdicts = this.noVerdicts();
      this.become(opened(this.state, opened2));
      if (opened2.run) await this.requeue();
    }
    async requeue() {
      const { run, spec, handed } = this.state;
      if (!run) return;
      this.set({ message: null });
      if (handed) {
        this.client.drop("queue");
        const [pairs3, queries2] = [Int32Array.from(handed.pairs), Int32Array.from(handed.queries)];
        const note = handed.pairs.length ? null : "No pairs were handed over.";
        this.become(queued(this.state, { pairs: pairs3, queries: queries2, reviewed: 0, note }));
        return;
      }
      const answer = await this.newest("queue", "queue", this.of({ spec }));
      if (!answer) return;
      const [pairs2, queries] = [integers(answer.pairs), integers(answer.queries)];
      this.become(queued(this.state, { ...answer, pairs: pairs2, queries }));
    }
    async handOver(handed) {
      if (this.state.run?.uid !== handed.uid) await this.open(handed.run);
      if (this.state.run?.uid === handed.uid) {
        this.set({ handed, chosen: /* @__PURE__ */ new Set(), outside: false, two: null });
        return this.requeue();
      }
      const gone = `The run '${handed.run}' of "${handed.title}" was deleted or made again.`;
      await this.failed(new Problem(gone));
    }
    async leaveHanded() {
      this.set({ handed: null, chosen: /* @__PURE__ */ new Set() });
      await this.requeue();
    }
    /** Change conditions of the queue, or leave all open but order and view. */
    async filter(change) {
      const { order, in_view, ...others } = this.state.spec;
      const kept2 = { ...order && { order }, ...in_view && { in_view } };
      this.set({ spec: { ...kept2, ...change && others, ...change }, chosen: /* @__PURE__ */ new Set() });
      await this.requeue();
    }
    /** Repeat what failed. */
    async again() {
      this.client.forget(({ problem }) => problem);
      this.set({ message: null });
      if (!this.state.opened) await this.open();
      else if (!this.state.queue) await this.requeue();
    }
    // --- the App -----------------------------------------------------------------------------
    /** Follow the samples that are selected in the grid, or the one that is open. */
    async follow(samples) {
      if (samples.length === 2) return this.explain(samples, null);
      this.client.drop("selected");
      if (this.state.two) this.set({ two: null, pins: [] });
      const [sample] = samples;
      if (samples.length !== 1 || !this.state.run) return;
      const params = this.of({ sample, shown: this.state.pair });
      const located2 = await this.newest("selected", "locate", params);
      if (typeof located2?.pair === "number") this.become(located(this.state, located2.pair));
    }
    /** Show two samples: their pair of the run, or explained by a model. */
    async explain(samples, chosen2) {
      const { run, two, opened: opened2 } = this.state;
      const [first, ...others] = opened2?.models ?? [];
      const only = first && !others.length && !run ? first.name : null;
      const model = chosen2 ?? two?.model ?? only;
      if (!run || two) this.set({ two: { samples, model, query: null }, pins: [] });
      const params = { ...run && this.of(), samples, ...model && { model } };
      const answer = await this.newest("selected", "selected", params);
      const query2 = answer?.query;
      if (typeof answer?.pair === "number") this.become(located(this.state, answer.pair));
      else if (query2) this.set({ two: { samples, model, query: query2 }, pins: [], message: null });
    }
    /** Let Python show samples or a form in the App. */
    async tell(question, params = {}) {
      await this.newest("tell", question, this.of({ pair: this.state.pair, ...params }));
    }
    // --- what is shown -----------------------------------------------------------------------
    queryParams(pair) {
      const { region } = this.state.choices;
      return this.of(region === null ? { pair } : { pair, region });
    }
    find(pair) {
      const exact = this.client.read("query", this.queryParams(pair)).value;
      const others = this.state.choices.region === null ? this.client.values("query") : [];
      for (const query2 of exact ? [exact] : others) {
        const index = query2.neighbors.findIndex((one) => one.pair === pair);
        const neighbor = query2.neighbors[index];
        if (neighbor) return { query: query2, neighbor, index };
      }
      return null;
    }
    /** Return what is to be shown, or what was until it is there. */
    shown() {
      const { two, pair, run } = this.state;
      const neighbor = two?.query?.neighbors[0];
      const nothing = pair === null || !run || two !== null && !neighbor;
      if (!neighbor && nothing) return { shown: null, current: true, problem: void 0 };
      const found = two?.query && neighbor ? { query: two.query, neighbor, index: 0 } : null;
      const shown2 = found ?? (nothing ? null : this.find(pair));
      this.last = shown2 ?? this.last;
      const entry = shown2 || nothing ? {} : this.client.read("query", this.queryParams(pair));
      return { shown: this.last, current: shown2 !== null, problem: entry.problem };
    }
    /** Ask for what is shown and what will be shown soon. */
    fetch() {
      const { pair, two, run, choices, queue, place, outside } = this.state;
      const { shown: shown2, current } = this.shown();
      const rested = two !== null || this.rested === pair;
      const rest = () => {
        this.rested = pair;
        this.client.changed();
      };
      if (shown2 && current && !rested) this.resting ??= setTimeout(rest, REST);
      if (shown2 && current) {
        if (rested) this.client.want("correspondences", this.about(shown2.neighbor.pair));
        if (choices.kind === CHANNEL && !two) this.client.want("channels", this.of({ pair }));
        this.wantMap(shown2);
      }
      if (two || pair === null || !run) return;
      for (const one of shown2 && current ? [shown2.query, shown2.neighbor] : [])
        if (this.isZoomed(one.picture)) this.client.want("picture", this.pictureParams(one.item));
      if (!current) this.client.want("query", this.queryParams(pair));
      const near = shown2?.query.neighbors.slice(Math.max(shown2.index - 2, 0), shown2.index + 3);
      preload(near?.map(({ picture }) => picture.url) ?? []);
      for (const next2 of soon(this.state)) {
        const there = this.find(next2);
        if (there) preload([there.query.picture.url, there.neighbor.picture.url]);
        else this.client.want("query", this.queryParams(next2), false);
      }
      const next = queue?.pairs[place + 1];
      if (current && rested && next !== void 0 && !outside)
        this.client.want("correspondences", this.of({ pair: next }), false);
    }
    /** What a question is about: a pair of the run, or the two selected samples. */
    about(pair) {
      const { two, run } = this.state;
      if (!two) return this.of({ pair });
      return { ...run && this.of(), samples: two.samples, ...two.model && { model: two.model } };
    }
    liveParams(kind, pair) {
      return { ...this.about(pair), kind, ...kind === CHANNEL && { channel: this.channel(pair) } };
    }
    wantMap(shown2) {
      const [{ kind }, chosen2] = [this.state.choices, this.chosen(shown2)];
      if (!chosen2?.live || chosen2.name in mapsOf(shown2.neighbor)) return;
      if (kind === BEST && this.rested !== this.state.pair) return;
      if (kind === CHANNEL && this.channel(shown2.neighbor.pair) === null) return;
      this.client.want("live", this.liveParams(chosen2.name, shown2.neighbor.pair), kind !== BEST);
    }
    /** The kind of map that is chosen; of the best, one along a path, stored or computed. */
    chosen({ query: query2, neighbor }) {
      const [{ kind }, maps2] = [this.state.choices, mapsOf(neighbor)];
      const isBest = ({ name, live }) => FINE.includes(name) && (live || name in maps2);
      return query2.kinds.find((one) => kind === BEST ? isBest(one) : one.name === kind);
    }
    /** Return the map that is drawn, a stored one until the chosen one has been computed; for the
     * strip, of the best available the one that all neighbors have. */
    map(shown2, strip = false) {
      const [{ kinds }, maps2] = [shown2.query, mapsOf(shown2.neighbor)];
      const ofAll = strip && this.state.choices.kind === BEST;
      const isThere = ({ name }) => name in maps2 && !(ofAll && FINE.includes(name));
      const first = kinds.find(isThere) ?? kinds[0];
      const kind = (ofAll ? null : this.chosen(shown2)) ?? first;
      if (!kind || !first) return null;
      const params = this.liveParams(kind.name, shown2.neighbor.pair);
      const { value, problem } = this.client.read("live", params);
      const there = value !== void 0 || kind.name in maps2;
      const waiting2 = there || problem || !kind.live ? null : kind;
      return { kind: there ? kind : first, live: value ?? null, waiting: waiting2, problem };
    }
    /** Largest value of a kind of map over the shown neighbors of a query. */
    limit(shown2, map, signed) {
      const { name } = map.kind;
      const limits = map.live ? shown2.query.neighbors.map(({ pair }) => this.live(name, pair)?.limit) : [shown2.query.limits[name]];
      return Math.max(0, ...limits.map((one) => one?.[signed ? "signed" : "positive"] ?? 0));
    }
    /** Return the larger picture of an item where one is zoomed into, once it is there. */
    picture({ picture, item }) {
      if (this.state.two || !this.isZoomed(picture)) return picture;
      const larger = this.client.read("picture", this.pictureParams(item)).value;
      return larger?.picture.url ? larger.picture : picture;
    }
    isZoomed({ width, height, full }) {
      return this.state.zoom.scale > ZOOMED && Math.max(...full) > Math.max(width, height);
    }
    /** The chosen channel, or the most important one of the pair. */
    channel(pair) {
      const { channel } = this.state.choices;
      return channel ? Number(channel) : this.channels(pair)?.channels[0]?.channel ?? null;
    }
    /** Return the row of a place of the queue, once its page is there. */
    row(place) {
      const page = this.client.read("rows", this.of({ pairs: this.page(place) })).value;
      return page?.rows[place % PAGE];
    }
    wantRows(first, last) {
      for (let place = first - first % PAGE; place <= last; place += PAGE)
        this.client.want("rows", this.of({ pairs: this.page(place) }));
    }
    page(place) {
      const first = place - place % PAGE;
      return Array.from(this.state.queue?.pairs.subarray(first, first + PAGE) ?? []);
    }
    // --- verdicts ----------------------------------------------------------------------------
    noVerdicts() {
      const rows = () => this.client.values("rows").flatMap((answer) => answer.rows);
      const listed = (pair) => rows().find((row) => row.pair === pair);
      const known = (pair) => this.find(pair)?.neighbor ?? listed(pair);
      return new Optimistic(
        (pair) => known(pair)?.verdict ?? null,
        () => this.client.changed()
      );
    }
    giveDigit(key) {
      const verdict = this.state.opened?.verdicts.find((one) => one.key === key);
      if (verdict) void this.give(verdict.name);
    }
    /** Give a verdict to the selected pairs or the shown one: seen at once, sent in turn. */
    async give(verdict) {
      const { chosen: chosen2, pair, two, advance } = this.state;
      const pairs2 = chosen2.size ? [...chosen2] : pair === null ? [] : [pair];
      if (!pairs2.length || two) return;
      const params = this.of({ pairs: pairs2, verdict });
      const given = this.verdicts.give(
        pairs2,
        verdict,
        (request_id) => this.client.ask("verdict", { ...params, request_id }, 2)
      );
      this.set({ message: null });
      if (advance && !chosen2.size) this.become(toPair(this.state, 1));
      await given.catch((error) => this.failed(error, "The verdict was not saved: "));
    }
    async undo() {
      const last = this.verdicts.undoable();
      if (!last) return;
      const params = this.of();
      const undone = this.verdicts.undo(
        last,
        (entries) => this.client.ask("undo", { ...params, entries }, 2)
      );
      const [only] = last.before.keys();
      this.set({ message: null });
      if (last.before.size === 1 && only !== void 0 && only !== this.state.pair)
        this.become(located(this.state, only));
      await undone.catch((error) => this.failed(error, "The verdict was not taken back: "));
    }
    // --- other commands ----------------------------------------------------------------------
    /** Turn to the next neighbor of the query, or the previous one. */
    turn(by) {
      const { shown: shown2, current } = this.shown();
      const next = current && shown2?.query.neighbors[shown2.index + by];
      if (next && next.pair >= 0) this.become(toNeighbor(this.state, next.pair));
    }
    /** Show the next map of those that the query has; each differs from the one before. */
    nextMap() {
      const names = (this.shown().shown?.query.kinds ?? []).map((kind) => kind.name);
      const order = [BEST, ...names.slice(1), ...names.slice(0, 1)];
      const at = order.indexOf(this.state.choices.kind) + 1;
      this.choose({ kind: order[at % order.length] ?? BEST });
    }
    /** Close what is open, else drop the selection, else the pins. */
    close() {
      if (this.state.help) this.set({ help: false });
      else if (this.state.chosen.size) this.set({ chosen: /* @__PURE__ */ new Set() });
      else this.set({ pins: [] });
    }
  };

  // src/shell.css
  var shell_default = `/* The shell of the component; its colors are the App's, light and dark. */
.sfam {
  --line: var(--fo-palette-primary-plainBorder, #8884);
  --chosen: #ff6d04;
  --text: var(--fo-palette-text-primary, #222);
  --soft: var(--fo-palette-text-secondary, #666);
  --back: var(--fo-palette-background-level2, #fff);
  container: sfam / size;
  position: absolute;
  inset: 0;
  display: flex;
  flex-direction: column;
  gap: 4px;
  padding: 6px;
  box-sizing: border-box;
  overflow: auto;
  color: var(--text);
  font-size: 13px;
  line-height: 1.35;
  /* A group of its own: otherwise a change of a text costs the browser 30 ms, as it looks for room
     for each of our layers among those of the grid. */
  will-change: opacity;
}
.sfam-part {
  display: contents;
}
.sfam *,
.sfam *::before {
  box-sizing: border-box;
}
.sfam :focus-visible,
.sfam:focus-visible {
  outline: 2px solid var(--chosen);
  outline-offset: -2px;
}
.sfam button,
.sfam select,
.sfam input {
  font: inherit;
  color: var(--text);
  background: var(--back);
  border: 1px solid var(--line);
  border-radius: 4px;
  padding: 2px 6px;
}
.sfam select,
.sfam input[type="number"],
.sfam input[type="text"] {
  max-width: 11em;
}
.sfam input[type="number"] {
  width: 5.5em;
}
.sfam input[type="range"] {
  width: 80px;
  padding: 0;
}
.sfam button {
  cursor: pointer;
}
.sfam button:hover {
  border-color: var(--text);
}
.sfam button[aria-pressed="true"] {
  border-color: var(--chosen);
  box-shadow: inset 0 0 0 1px var(--chosen);
}
.sfam kbd {
  display: inline-block;
  min-width: 7em;
  font: inherit;
  color: var(--soft);
}
.sfam p {
  margin: 2px 0;
}
.sfam-tools {
  display: flex;
  flex-wrap: wrap;
  gap: 4px 8px;
  align-items: center;
  flex: none;
}
.sfam-tools form {
  margin: 0;
}
.sfam-pick {
  display: inline-flex;
  gap: 4px;
  align-items: center;
}
.sfam-pick {
  color: var(--soft);
}
.sfam-pair > p {
  color: var(--soft);
  font-size: 12px;
}
.sfam-body {
  flex: 1 0 auto;
  display: flex;
  flex-direction: column;
  gap: 4px;
}
/* In a narrow pane all scrolls but the images, as parts of one column. */
.sfam-pair {
  display: contents;
}
.sfam-old {
  color: var(--soft);
}
.sfam-shown {
  position: sticky;
  top: 0;
  z-index: 2;
  flex: none;
  height: clamp(160px, 40cqh, 100cqw);
  background: var(--back);
}
.sfam-name {
  display: inline-block;
  max-width: 100%;
  overflow: hidden;
  text-overflow: ellipsis;
  white-space: nowrap;
  vertical-align: bottom;
}
.sfam-who {
  flex: 1 1 60px;
  min-width: 0;
  display: flex;
  flex-direction: column;
}
.sfam-who:last-child {
  text-align: end;
  align-items: flex-end;
}
.sfam-center {
  display: flex;
  flex: 1 1 100%;
  flex-wrap: wrap;
  order: 3;
  gap: 2px 8px;
  justify-content: center;
}
.sfam-outcome {
  color: #fff;
  border-radius: 3px;
  padding: 0 4px;
  white-space: nowrap;
}
.sfam-outcome > span + span {
  margin-inline-start: 4px;
}
.sfam-unseen {
  position: absolute;
  width: 1px;
  height: 1px;
  overflow: hidden;
  clip-path: inset(50%);
}
.sfam-strip {
  position: relative;
  display: flex;
  gap: 4px;
  overflow-x: auto;
  flex: none;
  padding: 2px;
}
.sfam button.sfam-card {
  position: relative;
  display: flex;
  flex-direction: column;
  align-items: center;
  flex: none;
  padding: 2px;
  font-size: 11px;
  border-width: 2px;
}
.sfam-card canvas {
  position: absolute;
}
.sfam-card img,
.sfam-card canvas {
  height: 64px;
  min-width: 24px;
  max-width: 96px;
  object-fit: contain;
}
.sfam button.sfam-true {
  border-style: dashed;
}
.sfam button.sfam-card[aria-current="true"] {
  border-color: var(--chosen);
}
.sfam-line {
  display: flex;
  gap: 4px;
  align-items: center;
  min-width: 0;
  white-space: nowrap;
}
.sfam-queue select {
  max-width: 9em;
}
.sfam-queue {
  flex: 1 0 240px;
  display: flex;
  flex-direction: column;
  gap: 4px;
  min-height: 240px;
  min-width: 0;
}
.sfam-list {
  position: relative;
  flex: 1 1 0;
  min-height: 120px;
  overflow-y: auto;
  border: 1px solid var(--line);
}
.sfam-list > div {
  position: relative;
}
.sfam-row {
  position: absolute;
  left: 0;
  right: 0;
  display: flex;
  gap: 4px;
  padding: 2px;
  cursor: pointer;
  border-bottom: 1px solid var(--line);
  border-inline-start: 4px solid transparent;
}
.sfam-row img {
  width: 40px;
  height: 100%;
  object-fit: contain;
  flex: none;
}
.sfam-row[aria-current="true"] {
  border-inline-start-color: var(--chosen);
  background: var(--line);
}
.sfam-row[aria-selected="true"] {
  box-shadow: inset 0 0 0 2px var(--chosen);
}
.sfam-cells {
  flex: 1 1 0;
  min-width: 0;
  overflow: hidden;
  font-size: 12px;
}
.sfam-own {
  color: var(--chosen);
  font-weight: 600;
  max-width: 16em;
}
.sfam-message {
  display: flex;
  gap: 8px;
  align-items: center;
  flex: none;
  padding: 4px 8px;
  border: 1px solid var(--chosen);
  border-radius: 4px;
}
.sfam-message > span {
  flex: 1 1 auto;
  overflow-wrap: anywhere;
}
.sfam-help {
  position: absolute;
  z-index: 5;
  top: 48px;
  right: 8px;
  max-width: calc(100% - 16px);
  padding: 10px;
  background: var(--back);
  border: 1px solid var(--line);
  box-shadow: 0 4px 16px #0006;
}
.sfam-tools > .sfam-bar {
  flex: 1 1 220px;
  min-width: 0;
}
@container sfam (max-width: 500px) {
  [role="toolbar"] {
    gap: 2px 6px;
    font-size: 12px;
  }
  [role="toolbar"] select {
    max-width: min(9em, 29cqw);
    font-size: 12px;
  }
  /* The choice itself says what it is; its name is the label of the list. */
  [role="toolbar"] .sfam-pick:has(select) {
    font-size: 0;
  }
  .sfam [role="toolbar"] input[type="range"] {
    width: 52px;
  }
}
@container sfam (min-width: 1000px) {
  .sfam-center {
    flex: 0 1 auto;
    order: 0;
  }
}
@container sfam (min-width: 760px) {
  .sfam-body {
    flex: 1 1 auto;
    flex-direction: row;
    gap: 8px;
    min-height: 0;
  }
  .sfam-pair {
    flex: 1 1 0;
    display: flex;
    flex-direction: column;
    gap: 4px;
    min-width: 0;
    overflow: auto;
  }
  .sfam-shown {
    position: relative;
    flex: 1 0 200px;
    height: auto;
    background: none;
  }
  .sfam-queue {
    flex: 0 0 clamp(240px, 28%, 380px);
    min-height: 0;
  }
}
`;

  // src/drawing.css
  var drawing_default = ".sfam-stage {\n  position: relative;\n  width: 100%;\n  height: 100%;\n  overflow: clip;\n  user-select: none;\n  cursor: crosshair;\n  touch-action: none;\n}\n.sfam-stage > * {\n  position: absolute;\n  pointer-events: none;\n}\n.sfam-stage > canvas {\n  inset: 0;\n  width: 100%;\n  height: 100%;\n}\n.sfam-stage:focus-visible {\n  outline: 2px solid var(--fo-palette-primary-plainColor, Highlight);\n  outline-offset: -2px;\n}\n.sfam-pill {\n  padding: 2px 8px;\n  border-radius: 4px;\n  font-size: 12px;\n  color: #ffffff;\n  background: rgb(0 0 0 / 0.8);\n  overflow-wrap: anywhere;\n}\n.sfam-pill:empty {\n  padding: 0;\n}\n.sfam-texts {\n  inset: auto 8px 8px;\n  display: flex;\n  flex-wrap: wrap;\n  gap: 4px;\n  align-items: flex-end;\n  justify-content: center;\n}\n.sfam-view {\n  display: flex;\n  align-items: flex-start;\n  justify-content: center;\n  text-align: center;\n}\n.sfam-view > .sfam-pill {\n  flex: none;\n  width: max-content;\n  max-width: 160px;\n  margin: 8px 0;\n}\n.sfam-view.sfam-missing {\n  align-items: center;\n  border: 1px dashed currentColor;\n}\n.sfam-stage > input.sfam-swipe {\n  --thumb: 20px;\n  margin: 0 calc(var(--thumb) / -2);\n  padding: 0 calc(var(--thumb) / 2);\n  box-sizing: content-box;\n  appearance: none;\n  border: none;\n  background: none;\n}\n.sfam-swipe::-webkit-slider-runnable-track {\n  height: 100%;\n  margin: 0 calc(var(--thumb) / -2);\n}\n.sfam-swipe::-webkit-slider-thumb {\n  appearance: none;\n  pointer-events: auto;\n  width: var(--thumb);\n  height: 100%;\n  cursor: ew-resize;\n  background: linear-gradient(\n    90deg,\n    #0000 8px,\n    #000 8px 9px,\n    #fff 9px 11px,\n    #000 11px 12px,\n    #0000 12px\n  );\n}\n.sfam-swipe::-moz-range-thumb {\n  pointer-events: auto;\n  width: var(--thumb);\n  height: 100%;\n  border: none;\n  border-radius: 0;\n  cursor: ew-resize;\n  background: linear-gradient(\n    90deg,\n    #0000 8px,\n    #000 8px 9px,\n    #fff 9px 11px,\n    #000 11px 12px,\n    #0000 12px\n  );\n}\n.sfam-receipt,\n.sfam-colorbar {\n  flex: none;\n  width: 100%;\n  font-size: 12px;\n  line-height: 1.4;\n  font-variant-numeric: tabular-nums;\n}\n.sfam-colorbar {\n  max-width: 480px;\n}\n.sfam-colorbar > div:first-child {\n  height: 12px;\n  box-shadow: inset 0 0 0 1px rgb(128 128 128 / 0.6);\n}\n.sfam-marks {\n  display: flex;\n  justify-content: space-between;\n  gap: 8px;\n}\n.sfam-parts {\n  position: relative;\n  display: flex;\n  height: 20px;\n  padding: 2px 0;\n  margin: 0 1px 2px;\n}\n.sfam-parts > div {\n  box-shadow: inset 0 0 0 0.5px rgb(0 0 0 / 0.5);\n}\n.sfam-parts > .sfam-mark {\n  position: absolute;\n  top: 0;\n  bottom: 0;\n  margin-left: -1px;\n  border-left: 2px solid currentColor;\n  box-shadow: none;\n}\n.sfam-parts > .sfam-mark + .sfam-mark {\n  border-left-style: dashed;\n}\n.sfam-receipt > ul {\n  display: flex;\n  flex-wrap: wrap;\n  gap: 2px 14px;\n  margin: 0;\n  padding: 0;\n  list-style: none;\n  overflow-wrap: anywhere;\n}\n.sfam-receipt > ul > li {\n  min-width: 0;\n}\n.sfam-swatch {\n  display: inline-block;\n  width: 10px;\n  height: 10px;\n  margin-inline-end: 5px;\n}\n.sfam-swatch.sfam-total {\n  width: 0;\n  border-left: 2px dashed currentColor;\n}\n";

  // src/surface.ts
  var CLICK = 4;
  var START2 = { side: "query", row: 0, column: 0 };
  var NAMES = { query: "Query", neighbor: "Neighbor" };
  var STEPS = {
    ArrowUp: [-1, 0],
    ArrowDown: [1, 0],
    ArrowLeft: [0, -1],
    ArrowRight: [0, 1]
  };
  var Surface = class {
    constructor(root, scene) {
      this.root = root;
      this.scene = scene;
      this.pointer = null;
      this.cursor = null;
      this.press = null;
      this.fingers = /* @__PURE__ */ new Map();
      // or the mouse, while they are down
      this.frame = 0;
      this.stale = true;
      // the views have to be painted again
      this.complete = false;
      // all of their pictures were there
      this.painted = 0;
    }
    /** Take over a new state of the component. */
    show(scene) {
      const before = this.scene;
      this.scene = scene;
      this.stale ||= !this.complete || !same(below(scene), below(before));
      if (this.stale || !same(scene, before)) this.request();
    }
    request() {
      if (this.frame === 0) this.frame = requestAnimationFrame(() => this.paint());
    }
    paint() {
      this.frame = 0;
      if (this.stale) this.complete = paintViews(this.cleared(0), this.scene);
      this.stale = false;
      const { points, pins, loupe } = this.scene;
      const active = this.cellUnder(this.pointer) ?? this.cursor ?? pins.at(-1);
      const match = active && points ? matched(points, active) : null;
      const under = loupe && this.pointer ? this.viewAt(this.pointer) : void 0;
      const shown2 = match !== null || under !== void 0;
      this.root.querySelectorAll("canvas")[1].style.visibility = shown2 ? "" : "hidden";
      if (shown2) this.paintOver(this.cleared(1), match, under);
      this.write(match);
      if (this.complete) this.root.dataset.painted = String(++this.painted);
    }
    paintOver(ctx, match, under) {
      const { scene } = this;
      if (match) paintMatch(ctx, scene, match);
      scene.pins.forEach((pin, at) => {
        const pinned = scene.points && matched(scene.points, pin);
        if (pinned) paintPin(ctx, scene.views, pinned, at);
      });
      if (!under || !this.pointer) return;
      const place = relative(this.pointer, under);
      for (const view of scene.views) paintLoupe(ctx, view, scene.look, ...place);
    }
    /** Clear a canvas, at the size of the stage in pixels of the screen. */
    cleared(index) {
      const canvas = this.root.querySelectorAll("canvas")[index];
      const { clientWidth, clientHeight } = this.root;
      const ratio = window.devicePixelRatio || 1;
      const [width, height] = [Math.round(clientWidth * ratio), Math.round(clientHeight * ratio)];
      if (canvas.width !== width) canvas.width = width;
      if (canvas.height !== height) canvas.height = height;
      const ctx = canvas.getContext("2d");
      ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
      ctx.clearRect(0, 0, clientWidth, clientHeight);
      return ctx;
    }
    /** Write the share of a cell; of the cursor also where that is. */
    write(match) {
      const { points } = this.scene;
      const share = match && points ? shareText(match.share, points.similarity) : "";
      const said = match && match.pin === this.cursor ? `${named(match.pin)}: ${share}` : share;
      const text = this.root.querySelector(".sfam-hover");
      if (text.textContent !== said) text.textContent = said;
    }
    viewAt({ x, y }) {
      return this.scene.views.find((view) => contains(view.frame, x, y));
    }
    cellUnder(place) {
      const view = place ? this.viewAt(place) : void 0;
      if (!place || !view?.grid || view.side === "swiped" || this.press?.moved) return null;
      const cell = cellAt(place.x, place.y, view.grid);
      return cell && { side: view.side, ...cell };
    }
    placeOf(event) {
      const { left, top } = this.root.getBoundingClientRect();
      return { x: event.clientX - left, y: event.clientY - top };
    }
    down(event) {
      const place = this.placeOf(event);
      const view = this.viewAt(place);
      this.pointer = place;
      this.fingers.set(event.pointerId, place);
      this.press = null;
      if (event.button === 0 && view && this.fingers.size === 1)
        this.press = { ...place, view, zoom: this.scene.zoom, moved: false };
    }
    move(event) {
      const place = this.placeOf(event);
      const { press, scene } = this;
      this.pointer = place;
      if (this.fingers.size > 1) this.pinch(event.pointerId, place);
      if (press) {
        const [dx, dy] = [place.x - press.x, place.y - press.y];
        if (!press.moved && Math.hypot(dx, dy) > CLICK) {
          press.moved = true;
          this.root.setPointerCapture(event.pointerId);
        }
        const { width, height } = press.view.at;
        const { scale, x, y } = press.zoom;
        if (press.moved) scene.onZoom(bounded(scale, x - dx / width, y - dy / height));
      }
      this.request();
    }
    /** Zoom around the finger that rests, by how the other one's distance from it changes. */
    pinch(finger, to) {
      const from = this.fingers.get(finger);
      const rest = [...this.fingers].find(([one]) => one !== finger)?.[1];
      const view = rest && this.viewAt(rest);
      if (!from || !view) return;
      const [before, now] = [from, to].map(({ x, y }) => Math.hypot(x - rest.x, y - rest.y));
      this.fingers.set(finger, to);
      const { zoom, onZoom } = this.scene;
      if (before) onZoom(zoomAround(zoom, now / before, ...relative(rest, view)));
    }
    up(event) {
      const clicked = this.press && this.cellUnder(this.pointer);
      if (clicked) this.toggle(clicked);
      this.leave(event, this.pointer);
    }
    leave({ pointerId }, pointer = null) {
      this.fingers.delete(pointerId);
      this.pointer = pointer;
      this.press = null;
      this.request();
    }
    wheel(event) {
      const place = this.placeOf(event);
      const view = this.viewAt(place);
      if (!view || event.deltaY === 0) return;
      event.preventDefault();
      const factor = 2 ** (-clamp(event.deltaY, -400, 400) / 200);
      const { zoom, onZoom } = this.scene;
      onZoom(zoomAround(zoom, factor, ...relative(place, view)));
    }
    /** Move the cursor, also to its match on the other image, pin its cell or put it away; return
     * whether the key is one of these. */
    key({ key, shiftKey }) {
      const { cursor } = this;
      const { points, pins } = this.scene;
      const step2 = shiftKey ? STEPS[key] : void 0;
      if (!points) return false;
      if (step2) this.cursor = moved(points, cursor ?? pins.at(-1) ?? START2, step2);
      else if (!cursor) return false;
      else if (key === " ") this.cursor = matched(points, cursor)?.best ?? cursor;
      else if (key === "Enter") this.toggle(cursor);
      else if (key === "Escape") this.cursor = null;
      else return false;
      this.pointer = null;
      this.request();
      return true;
    }
    toggle(cell) {
      const { pins, onPins } = this.scene;
      const others = pins.filter((pin) => named(pin) !== named(cell));
      onPins(others.length < pins.length ? others : [...pins, cell]);
    }
  };
  function below({ views, look }) {
    return [look, ...views.map((view) => ({ ...view, grid: null }))];
  }
  var named = ({ side, row, column }) => `${NAMES[side]}, row ${row + 1}, column ${column + 1}`;
  function relative({ x, y }, { at }) {
    return [(x - at.x) / at.width, (y - at.y) / at.height];
  }

  // src/stage.tsx
  function Stage(props) {
    const { look, hint } = props;
    const root = React.useRef(null);
    const surface = React.useRef(null);
    const [size, setSize] = React.useState([0, 0]);
    const [split, setSplit] = React.useState(0.5);
    const [, again] = React.useReducer((count) => count + 1, 0);
    const scene = { ...props, views: viewsOf(props, size, split) };
    const swiped = scene.views.find(({ side }) => side === "swiped");
    React.useLayoutEffect(() => {
      const element = root.current;
      const observer = new ResizeObserver(() => setSize([element.clientWidth, element.clientHeight]));
      surface.current = new Surface(element, scene);
      observer.observe(element);
      element.onwheel = (event) => surface.current?.wheel(event);
      return () => observer.disconnect();
    }, []);
    React.useLayoutEffect(() => {
      if (Math.min(...size) > 0) surface.current?.show(scene);
    });
    return /* @__PURE__ */ React.createElement(
      "div",
      {
        ref: root,
        role: "group",
        tabIndex: 0,
        className: "sfam-stage",
        "data-testid": "sfam-stage",
        "aria-label": "Query and neighbor. Shift and arrows move a cursor, Space switches, Enter pins.",
        onPointerDown: (event) => surface.current?.down(event.nativeEvent),
        onPointerMove: (event) => surface.current?.move(event.nativeEvent),
        onPointerUp: (event) => surface.current?.up(event.nativeEvent),
        onPointerCancel: (event) => surface.current?.leave(event.nativeEvent),
        onPointerLeave: (event) => surface.current?.leave(event.nativeEvent),
        onDoubleClick: () => props.onZoom(FIT),
        onKeyDown: (event) => {
          if (event.target !== event.currentTarget || !surface.current?.key(event)) return;
          event.preventDefault();
          event.stopPropagation();
        }
      },
      /* @__PURE__ */ React.createElement("style", null, drawing_default),
      /* @__PURE__ */ React.createElement("canvas", { "aria-hidden": true }),
      scene.views.map((view) => /* @__PURE__ */ React.createElement(
        Frame,
        {
          key: view.side + view.what,
          view,
          testId: look.mode === "side" && view.what === "map" ? void 0 : `sfam-${view.side}`,
          again
        }
      )),
      /* @__PURE__ */ React.createElement("canvas", { "aria-hidden": true }),
      swiped && /* @__PURE__ */ React.createElement(
        "input",
        {
          type: "range",
          className: "sfam-swipe",
          "data-testid": "sfam-swipe",
          "aria-label": `Divider before ${swiped.image.label}`,
          step: 0.5,
          value: 100 * split,
          style: styleOf(swiped.room),
          onChange: ({ target }) => setSplit(Number(target.value) / 100),
          onPointerDown: (event) => event.stopPropagation(),
          onDoubleClick: (event) => event.stopPropagation()
        }
      ),
      /* @__PURE__ */ React.createElement("div", { className: "sfam-texts" }, /* @__PURE__ */ React.createElement("div", { className: "sfam-pill sfam-hover", "data-testid": "sfam-hover", "aria-live": "polite" }), hint && /* @__PURE__ */ React.createElement("div", { className: "sfam-pill" }, hint))
    );
  }
  function Frame(props) {
    const { image, at } = props.view;
    const { url, problem } = image.picture;
    const missing = pictureOf(url, props.again).state === "broken";
    const sentence = problem ?? (url && missing ? "The browser cannot show this image." : null);
    return /* @__PURE__ */ React.createElement(
      "div",
      {
        role: "img",
        className: missing ? "sfam-view sfam-missing" : "sfam-view",
        "data-testid": props.testId,
        "aria-label": sentence ? `${image.label}: ${sentence}` : image.label,
        style: styleOf(at)
      },
      sentence && /* @__PURE__ */ React.createElement("span", { className: "sfam-pill" }, sentence)
    );
  }
  var styleOf = ({ x, y, width, height }) => ({ left: x, top: y, width, height });

  // src/toolbar.tsx
  var MODES = [
    { name: "overlay", label: "over the image" },
    { name: "side", label: "beside the image" },
    { name: "maps", label: "maps only" }
  ];
  function colorsOf({ opened: opened2, choices }, map) {
    const signed = choices.signed || (map?.kind.signed ?? false);
    const colors = (opened2?.colors ?? []).filter((one) => one.diverging === signed);
    return { signed, colors, color: colors.find((one) => one.name === choices.colors) ?? colors[0] };
  }
  function toolbar(session, shown2, map) {
    const { opened: opened2, run, choices, two } = session.state;
    const { signed, colors, color } = colorsOf(session.state, map);
    const runs = (opened2?.runs ?? []).map((name) => ({ name, label: name }));
    const kinds = [{ name: BEST, label: "best available" }, ...shown2?.query.kinds ?? []];
    const known = choices.kind === CHANNEL && shown2 ? session.channels(shown2.neighbor.pair) : null;
    const channels = known?.channels.map(({ channel, value }) => {
      return { name: String(channel), label: `${channel} (${value.toFixed(3)})` };
    });
    const models = opened2?.models ?? [];
    const explain = (model) => two && session.explain(two.samples, model);
    const set = (name) => (value) => session.choose({ [name]: value });
    return /* @__PURE__ */ React.createElement("div", { className: "sfam-tools", role: "toolbar", "aria-label": "How maps are drawn" }, runs.length > 1 && pick("Run", run?.key, runs, (name) => session.open(name ?? "")), two && pick("Model", two.model, models, explain, run ? "of the run" : "choose"), pick("Map", choices.kind, kinds, set("kind")), channels && pick("Channel", choices.channel, channels, set("channel"), "most important"), pick("Colors", color?.name, colors, set("colors")), pick("Shown", choices.mode, MODES, set("mode")), slide("Opacity", choices.opacity, set("opacity")), slide("Threshold", choices.threshold, set("threshold")), tick("Signed", signed, set("signed")), tick("Smooth", choices.smooth, set("smooth")), tick("Loupe", choices.loupe, set("loupe")), tick("Swipe", choices.swipe, set("swipe")), tick("On the strip", choices.strip, set("strip")), push("Zoom to fit", () => session.set({ zoom: FIT })), push("Keys", () => session.set({ help: !session.state.help }), { hint: "Keys (?)" }));
  }

  // src/verdicts.tsx
  var UNDO = { hint: "Undo (U)", testId: "sfam-undo" };
  function Verdicts({ session }) {
    const { verdicts } = session;
    const { opened: opened2, chosen: chosen2, pair, advance } = session.state;
    const [own, setOwn] = React.useState("");
    const shown2 = chosen2.size || pair === null ? null : verdicts.of(pair);
    const known = opened2?.verdicts ?? [];
    const label = verdicts.isPending() ? "Saving…" : "Verdict:";
    const button = ({ name, label: label2, key }) => push(label2, () => session.give(name), {
      on: shown2 === name,
      hint: `${label2} (${key})`,
      testId: `sfam-verdict-${name}`,
      children: `${key} ${label2}`
    });
    return /* @__PURE__ */ React.createElement("div", { className: "sfam-tools", role: "group", "aria-label": "Verdict" }, /* @__PURE__ */ React.createElement("span", { role: "status" }, chosen2.size ? `${chosen2.size} selected:` : label), known.map(button), shown2 !== null && !known.some(({ name }) => name === shown2) && nameOf(shown2, "", "sfam-own"), /* @__PURE__ */ React.createElement(
      "form",
      {
        onSubmit: (event) => {
          event.preventDefault();
          if (own.trim()) void session.give(own.trim());
          setOwn("");
        }
      },
      /* @__PURE__ */ React.createElement(
        "input",
        {
          "aria-label": "Verdict in your own words",
          placeholder: "own words",
          dir: "auto",
          maxLength: 200,
          value: own,
          onChange: ({ target }) => setOwn(target.value)
        }
      )
    ), verdicts.undoable() && push("Undo", () => session.undo(), UNDO), tick("then the next", advance, (on) => session.set({ advance: on })));
  }

  // src/viewer.tsx
  var decoded = /* @__PURE__ */ new WeakMap();
  function once(encoded, make) {
    const value = decoded.get(encoded) ?? make(encoded);
    decoded.set(encoded, value);
    return value;
  }
  function Viewer(props) {
    const session = usePanel(props.schema.view.ask, () => new Session());
    const root = React.useRef(null);
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
    const { opened: opened2, run, two, message, queue } = rest;
    const listed = [rest, session.client.values("rows"), session.verdicts.version];
    const { shown: shown2, current, problem } = session.shown();
    React.useEffect(() => current ? later(() => session.fetch()) : session.fetch());
    const map = shown2 && session.map(shown2);
    const channels = shown2 && session.channels(shown2.neighbor.pair);
    const said = message?.text ?? problem?.message ?? null;
    const waiting2 = said === null && (!opened2 || !shown2 && queue && queue.pairs.length > 0);
    const onKeyDown = (event) => {
      const command = event.defaultPrevented ? null : commandOf(event);
      if (!command) return;
      event.preventDefault();
      event.stopPropagation();
      command(session);
    };
    const named2 = { "data-testid": "sfam-viewer", "aria-label": "SFAM pairs" };
    return /* @__PURE__ */ React.createElement("section", { className: "sfam", tabIndex: 0, ref: root, onKeyDown, ...named2 }, /* @__PURE__ */ React.createElement("style", null, shell_default), said !== null && /* @__PURE__ */ React.createElement("div", { className: "sfam-message", role: "alert", "data-testid": "sfam-message" }, /* @__PURE__ */ React.createElement("span", null, said), (message?.retry ?? true) && push("Retry", () => session.again()), message && push("Dismiss", () => session.set({ message: null }))), (run || two) && /* @__PURE__ */ React.createElement(
      Part,
      {
        needs: [opened2, run, two, choices, shown2?.query.kinds, map?.kind, channels],
        draw: () => toolbar(session, shown2, map)
      }
    ), waiting2 && /* @__PURE__ */ React.createElement("p", { role: "status" }, "Loading…"), opened2?.empty && !two && /* @__PURE__ */ React.createElement("div", { className: "sfam-empty", "data-testid": "sfam-empty" }, /* @__PURE__ */ React.createElement("p", null, opened2.empty), push("Explain the retrieval…", () => session.tell("explain")), " ", push("Look again", () => session.open())), /* @__PURE__ */ React.createElement("div", { className: "sfam-body" }, shown2 && /* @__PURE__ */ React.createElement(Pair, { session, shown: shown2, map, current }), run && /* @__PURE__ */ React.createElement(Part, { needs: listed, draw: () => /* @__PURE__ */ React.createElement(QueueList, { session }) })), help && /* @__PURE__ */ React.createElement("div", { className: "sfam-help", role: "dialog", "aria-label": "Keys", "data-testid": "sfam-help" }, KEYS.map(([key, text]) => /* @__PURE__ */ React.createElement("div", { key }, /* @__PURE__ */ React.createElement("kbd", null, key), " ", text)), push("Close", () => session.set({ help: false }))));
  }
  var [PAUSE, MOST] = [60, 500];
  function Part(props) {
    const root = React.useRef(null);
    const latest = React.useRef(props);
    const since = React.useRef(0);
    const [drawn, setDrawn] = React.useState(props);
    const stale = !same(drawn.needs, props.needs);
    latest.current = props;
    if (stale && root.current?.contains(document.activeElement)) setDrawn(props);
    since.current = stale ? since.current || performance.now() : 0;
    React.useEffect(() => {
      const wait = Math.min(PAUSE, since.current + MOST - performance.now());
      const timer = stale ? setTimeout(() => setDrawn(latest.current), wait) : void 0;
      return () => clearTimeout(timer);
    });
    const content = React.useMemo(drawn.draw, [drawn]);
    return React.createElement("div", { className: "sfam-part", ref: root }, content);
  }
  function Pair(props) {
    const { session, shown: shown2, map, current } = props;
    const { query: query2, neighbor, index } = shown2;
    const { zoom, pins, ...others } = session.state;
    const { opened: opened2, choices, two, place } = others;
    const [, again] = React.useReducer((count) => count + 1, 0);
    const isLoading = ({ url }) => url && pictureOf(url, again).state === "loading";
    const loading = [query2.picture, neighbor.picture].some(isLoading);
    const look = lookOf(session, shown2, map);
    const sides = map?.live ?? neighbor;
    const drawn = (one, side, label) => imageOf(session.picture(one), side, map, label);
    const paint = (one, canvas) => {
      const small = session.map(shown2, true);
      const side = (small?.live ? session.live(small.kind.name, one.pair) : one)?.neighbor_side;
      const card = imageOf(one.picture, side ?? null, small, "");
      paintCard(canvas, card, lookOf(session, shown2, small));
    };
    const next = choices.swipe ? query2.neighbors[index + 1] : void 0;
    const { value: points, problem } = session.points(neighbor.pair);
    return /* @__PURE__ */ React.createElement("div", { className: current ? "sfam-pair" : "sfam-pair sfam-old", "aria-busy": !current }, /* @__PURE__ */ React.createElement(Part, { needs: [shown2, current, opened2], draw: () => scores(session, shown2) }), /* @__PURE__ */ React.createElement(
      "div",
      {
        className: "sfam-shown",
        "data-testid": "sfam-shown",
        "data-pair": current && !loading ? neighbor.pair : void 0,
        "data-kind": map?.kind.name,
        "data-place": place
      },
      /* @__PURE__ */ React.createElement(
        Stage,
        {
          query: drawn(query2, sides.query_side, `Query ${query2.identity ?? ""}`),
          neighbor: drawn(neighbor, sides.neighbor_side, `Neighbor ${neighbor.rank}`),
          swipe: next ? imageOf(next.picture, next.neighbor_side, map, `Rank ${next.rank}`) : null,
          look,
          zoom,
          onZoom: (to) => session.set({ zoom: to }),
          points: points ? { ...points, values: once(points.points, decode) } : null,
          pins,
          onPins: (now) => session.set({ pins: now }),
          loupe: choices.loupe,
          hint: map?.problem?.message ?? problem?.message ?? null
        }
      )
    ), !two && /* @__PURE__ */ React.createElement(
      Part,
      {
        needs: [query2.neighbors, neighbor.pair, opened2, choices.strip && [look, map]],
        draw: () => /* @__PURE__ */ React.createElement(Strip, { ...{ session, shown: shown2 }, paint: choices.strip ? paint : null })
      }
    ), /* @__PURE__ */ React.createElement(
      Part,
      {
        needs: [shown2, map, look, points?.notes, others, session.verdicts.version],
        draw: () => details(session, shown2, map, look)
      }
    ));
  }
  function details(session, { query: query2, neighbor }, map, look) {
    const { run, two, choices } = session.state;
    const points = session.points(neighbor.pair).value;
    const notes = [run?.notes, query2.notes, points?.notes, map?.live?.notes].flat();
    const fields = !two && run?.fields || [];
    const divide = (region) => session.choose({ region });
    const show = (what) => () => session.tell("show", { what });
    return /* @__PURE__ */ React.createElement(React.Fragment, null, !two && /* @__PURE__ */ React.createElement(Verdicts, { session }), /* @__PURE__ */ React.createElement("div", { className: "sfam-tools" }, /* @__PURE__ */ React.createElement("span", { "data-testid": "sfam-map" }, map?.kind.label ?? "no map", map?.waiting && ` (${map.waiting.label} is being computed…)`), /* @__PURE__ */ React.createElement(ColorBar, { look, unit: map?.kind.unit ?? "" })), /* @__PURE__ */ React.createElement("div", { className: "sfam-tools" }, /* @__PURE__ */ React.createElement(Receipt, { shares: neighbor.receipt, total: neighbor.similarity }), fields.length > 1 && pick("Divided by", choices.region, fields, divide)), /* @__PURE__ */ React.createElement("div", { className: "sfam-tools" }, !two && push("Show in the grid", show("grid")), !two && push("Open the query", show("query")), !two && push("Open the neighbor", show("neighbor"))), [...new Set(notes)].map((note) => note && /* @__PURE__ */ React.createElement("p", { key: note }, note)));
  }
  var later = (call) => void requestAnimationFrame(() => setTimeout(call));
  function scores(session, { query: query2, neighbor }) {
    const { margin, best_true, rank, similarity, distance, outcome } = neighbor;
    const who = ({ identity, camera }) => /* @__PURE__ */ React.createElement("span", { className: "sfam-who" }, nameOf(identity, "no identity"), camera !== null && nameOf(camera));
    const apart = margin && `${Math.abs(margin).toFixed(4)} ${margin < 0 ? "less" : "more"} similar`;
    return /* @__PURE__ */ React.createElement("div", { className: "sfam-tools", "data-testid": "sfam-scores", "data-pair": neighbor.pair }, who(query2), /* @__PURE__ */ React.createElement("span", { className: "sfam-center" }, outcomeOf(session.state.opened, outcome, true), rank > 0 && /* @__PURE__ */ React.createElement("b", null, "Rank ", rank), /* @__PURE__ */ React.createElement("span", null, "similarity ", similarity.toFixed(4), ", distance ", distance.toFixed(4)), listScore(neighbor), (best_true || apart) && /* @__PURE__ */ React.createElement("span", null, "nearest true match", best_true ? "" : `: ${apart}`)), who(neighbor));
  }
  function imageOf(picture, side, map, label) {
    const encoded = map ? side?.maps[map.kind.name] : void 0;
    const [rows = 1, columns = 1] = encoded?.shape ?? [];
    const values = encoded ? once(encoded, decode) : null;
    return { picture, values, shape: [rows, columns], box: side?.box ?? [0, 0, 1, 1], label };
  }
  function lookOf(session, shown2, map) {
    const { opacity: opacity2, threshold, smooth, mode } = session.state.choices;
    const { signed, color } = colorsOf(session.state, map);
    const table = color ? once(color.table, colorTable) : new Uint8Array(768);
    const limit = map ? session.limit(shown2, map, signed) : 0;
    return { table, diverging: signed, signed, limit, opacity: opacity2, threshold, smooth, mode };
  }

  // src/main.tsx
  var type = app.__fop__.PluginComponentType.Component;
  var pairs = { name: "SfamPairs", label: "SFAM pairs", component: Viewer, type };
  var findings = { name: "SfamFindings", label: "SFAM findings", component: SfamFindings, type };
  for (const component of [pairs, findings])
    app.__fop__.registerComponent({ ...component, activator: () => true });
  registerHandover();
})();
