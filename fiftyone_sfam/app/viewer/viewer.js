// Built from src/ by `make viewer`; do not edit.
"use strict";
(() => {
  // src/app.ts
  var app = globalThis;

  // src/handover.ts
  var EVENT = "sfam-pairs";
  var waiting = null;
  function onHandedOver(take) {
    const listener = () => {
      if (waiting) take(waiting);
      queueMicrotask(() => {
        waiting = null;
      });
    };
    listener();
    globalThis.addEventListener(EVENT, listener);
    return () => globalThis.removeEventListener(EVENT, listener);
  }
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

  // src/coloring.ts
  var STEPS = 16384;
  function indexOf(strength, look) {
    return look.signed || look.diverging ? Math.round((strength + 1) * 127.5) : Math.round(Math.max(strength, 0) * 255);
  }
  function colorOf(strength, look) {
    const at = 3 * indexOf(strength, look);
    return [look.table[at], look.table[at + 1], look.table[at + 2]];
  }
  var lately = [];
  function pixelsOf(look, solid) {
    const same2 = lately.find(
      (kept) => kept.solid === solid && kept.look.table === look.table && kept.look.diverging === look.diverging && kept.look.signed === look.signed && kept.look.threshold === look.threshold
    );
    if (same2) return same2.pixels;
    const bytes = new Uint8ClampedArray(4 * (2 * STEPS + 1));
    for (let step = -STEPS; step <= STEPS; step++) {
      const strength = look.signed ? step / STEPS : Math.max(step, 0) / STEPS;
      const size = Math.abs(strength);
      const alpha = solid ? 1 : Math.sqrt(size);
      bytes.set(colorOf(strength, look), 4 * (step + STEPS));
      bytes[4 * (step + STEPS) + 3] = size < look.threshold ? 0 : Math.round(alpha * 255);
    }
    const pixels = new Uint32Array(bytes.buffer);
    lately = [{ look: { ...look }, solid, pixels }, ...lately].slice(0, 4);
    return pixels;
  }
  function between(cells, pixels) {
    const first = new Int32Array(pixels);
    const second = new Int32Array(pixels);
    const part = new Float32Array(pixels);
    for (let at = 0; at < pixels; at++) {
      const place = Math.min(Math.max((at + 0.5) * cells / pixels - 0.5, 0), cells - 1);
      first[at] = Math.floor(place);
      second[at] = Math.min(first[at] + 1, cells - 1);
      part[at] = place - first[at];
    }
    return { first, second, part };
  }
  function colored(values, [rows, columns], [width, height], look, solid = false) {
    const pixels = pixelsOf(look, solid);
    const result = new Uint32Array(width * height);
    const across = between(columns, width);
    const down = between(rows, height);
    const scale = STEPS / (look.limit > 0 ? look.limit : 1);
    const line = new Float32Array(columns);
    for (let y = 0; y < height; y++) {
      const [above, below, part] = [
        down.first[y] * columns,
        down.second[y] * columns,
        down.part[y]
      ];
      for (let column = 0; column < columns; column++) {
        const value = values[above + column];
        line[column] = (value + (values[below + column] - value) * part) * scale;
      }
      for (let x = 0; x < width; x++) {
        const value = line[across.first[x]];
        const step = value + (line[across.second[x]] - value) * across.part[x];
        const bounded3 = Math.min(Math.max(step, -STEPS), STEPS);
        result[y * width + x] = pixels[Math.round(bounded3) + STEPS];
      }
    }
    return new Uint8ClampedArray(result.buffer);
  }
  var MATCHES = {
    table: Uint8Array.from({ length: 768 }, (_, at) => {
      const color = at < 384 ? [86, 180, 233] : [255, 160, 20];
      return color[at % 3];
    }),
    diverging: true,
    signed: true,
    threshold: 0
  };

  // src/drawing.css
  var drawing_default = ".sfam-stage {\n  position: relative;\n  width: 100%;\n  height: 100%;\n  overflow: hidden;\n  user-select: none;\n}\n.sfam-stage > * {\n  position: absolute;\n}\n.sfam-stage > canvas {\n  inset: 0;\n  width: 100%;\n  height: 100%;\n}\n.sfam-stage > .sfam-above {\n  pointer-events: none;\n}\n.sfam-stage:focus-visible,\n.sfam-swipe:focus-visible {\n  outline: 2px solid var(--fo-palette-primary-plainColor, Highlight);\n  outline-offset: -2px;\n}\n.sfam-pill {\n  box-sizing: border-box;\n  padding: 2px 8px;\n  border-radius: 4px;\n  font-size: 12px;\n  color: #ffffff;\n  background: rgb(0 0 0 / 0.8);\n  overflow-wrap: anywhere;\n  pointer-events: none;\n}\n.sfam-hover {\n  top: 0;\n  left: 0;\n  visibility: hidden;\n  white-space: nowrap;\n}\n.sfam-hint {\n  left: 8px;\n  bottom: 8px;\n  max-width: calc(100% - 16px);\n}\n.sfam-problem {\n  box-sizing: border-box;\n  padding: 8px;\n  display: flex;\n  align-items: flex-end;\n  justify-content: center;\n  text-align: center;\n  pointer-events: none;\n}\n.sfam-problem.sfam-missing {\n  align-items: center;\n  border: 1px dashed currentColor;\n}\n.sfam-swipe {\n  width: 20px;\n  margin-left: -10px;\n  cursor: ew-resize;\n  touch-action: none;\n  background: linear-gradient(\n    90deg,\n    transparent 8px,\n    #000 8px 9px,\n    #fff 9px 11px,\n    #000 11px 12px,\n    transparent 12px\n  );\n}\n.sfam-swipe .sfam-pill {\n  position: absolute;\n  top: 4px;\n  overflow: hidden;\n  white-space: nowrap;\n  text-overflow: ellipsis;\n}\n.sfam-parts {\n  height: 20px;\n}\n.sfam-parts > * {\n  top: 2px;\n  bottom: 2px;\n  box-shadow: inset 0 0 0 0.5px rgb(0 0 0 / 0.5);\n}\n.sfam-parts > .sfam-mark {\n  top: 0;\n  bottom: 0;\n  margin-left: -1px;\n  border-left: 2px solid currentColor;\n  box-shadow: none;\n}\n.sfam-parts > .sfam-mark + .sfam-mark {\n  border-left-style: dashed;\n}\n.sfam-labels {\n  height: 18px;\n}\n.sfam-gradient {\n  height: 12px;\n  box-shadow: inset 0 0 0 1px rgb(128 128 128 / 0.6);\n}\n.sfam-gradient > * {\n  top: 9px;\n  height: 6px;\n  border-left: 1px solid currentColor;\n}\n.sfam-bar {\n  font-size: 12px;\n  line-height: 1.4;\n  font-variant-numeric: tabular-nums;\n}\n.sfam-bar > div {\n  position: relative;\n}\n.sfam-bar > div > * {\n  position: absolute;\n  white-space: nowrap;\n}\n.sfam-bar > ul {\n  display: flex;\n  flex-wrap: wrap;\n  gap: 2px 14px;\n  margin: 0;\n  padding: 0;\n  list-style: none;\n  overflow-wrap: anywhere;\n}\n.sfam-swatch {\n  display: inline-block;\n  width: 10px;\n  height: 10px;\n  margin-inline-end: 5px;\n}\n";

  // src/formats.ts
  var COLORS = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442"];
  var HATCHED = "repeating-linear-gradient(45deg, #999999 0 4px, #d0d0d0 4px 7px)";
  function signedText(value, digits) {
    const text = Math.abs(value).toFixed(digits);
    if (Number(text) === 0) return text;
    return (value < 0 ? "-" : "+") + text;
  }
  function shareText(share, score) {
    const value = signedText(share, 4);
    if (!(score > 0)) return `${value} of ${score.toFixed(3)}`;
    const percent = 100 * share / score;
    const digits = Math.abs(percent) < 0.95 ? 1 : 0;
    const text = percent.toFixed(digits);
    return `${value}, ${Number(text) === 0 ? "0" : text} % of ${score.toFixed(3)}`;
  }
  function ticks(low, high, most) {
    if (!(high > low) || !Number.isFinite(high - low)) return [{ value: low, text: String(low) }];
    const power = 10 ** Math.floor(Math.log10((high - low) / most));
    const step = [1, 2, 5, 10, 20, 50].map((size) => size * power).find((size) => fits(size)) ?? 50 * power;
    function fits(size) {
      return Math.floor(high / size + 1e-6) - Math.ceil(low / size - 1e-6) < most;
    }
    const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-6));
    const first = Math.ceil(low / step - 1e-6);
    const count = Math.floor(high / step + 1e-6) - first + 1;
    return Array.from({ length: count }, (_, at) => {
      const value = (first + at) * step;
      return {
        value,
        text: value === 0 ? "0" : digits > 5 ? value.toExponential(0) : value.toFixed(digits)
      };
    });
  }
  function receiptParts(shares, total) {
    const sum = (sign) => shares.reduce((result, share) => result + Math.max(sign * share.value, 0), 0);
    const low = Math.max(sum(-1), -total, 0);
    const span = low + Math.max(sum(1), total, 0) || 1;
    const percent = (value) => 100 * (value + low) / span;
    let [left, right, named] = [0, 0, 0];
    const parts = shares.map((share) => {
      const start = share.value < 0 ? left + share.value : right;
      if (share.value < 0) left = start;
      else right += share.value;
      const area = share.area > 0 ? ` (${Math.round(100 * share.area)} % of the area)` : "";
      return {
        name: share.name,
        text: signedText(share.value, 3) + area,
        start: percent(start),
        width: 100 * Math.abs(share.value) / span,
        color: share.remainder ? "#999999" : COLORS[named++ % COLORS.length],
        remainder: share.remainder
      };
    });
    return { parts, zero: percent(0), total: percent(total) };
  }

  // src/bars.tsx
  var { React } = app;
  function Receipt(props) {
    const laidOut = () => receiptParts(props.shares, props.total);
    const { parts, zero, total } = React.useMemo(laidOut, [props.shares, props.total]);
    const background = (part) => ({
      background: part.remainder ? HATCHED : part.color
    });
    return /* @__PURE__ */ React.createElement("div", { "data-testid": "sfam-receipt", className: "sfam-bar" }, /* @__PURE__ */ React.createElement("style", null, drawing_default), /* @__PURE__ */ React.createElement("div", { className: "sfam-parts", "aria-hidden": true }, parts.map((part) => /* @__PURE__ */ React.createElement(
      "div",
      {
        key: part.name,
        title: `${part.name}: ${part.text}`,
        style: { ...background(part), left: `${part.start}%`, width: `${part.width}%` }
      }
    )), /* @__PURE__ */ React.createElement("div", { className: "sfam-mark", style: { left: `${zero}%` } }), /* @__PURE__ */ React.createElement("div", { className: "sfam-mark", style: { left: `${total}%` } })), /* @__PURE__ */ React.createElement("div", { className: "sfam-labels", "aria-hidden": true }, /* @__PURE__ */ React.createElement(Label, { at: zero, text: "0" }), /* @__PURE__ */ React.createElement(Label, { at: total, text: props.total.toFixed(3) })), /* @__PURE__ */ React.createElement("ul", null, parts.map((part) => /* @__PURE__ */ React.createElement("li", { key: part.name }, /* @__PURE__ */ React.createElement("span", { className: "sfam-swatch", style: background(part) }), /* @__PURE__ */ React.createElement("bdi", null, part.name), " ", part.text))));
  }
  function Label(props) {
    const style = { left: `${props.at}%`, transform: `translateX(-${props.at}%)` };
    return /* @__PURE__ */ React.createElement("span", { style }, props.text);
  }
  function ColorBar(props) {
    const { look, unit } = props;
    const low = look.signed ? -1 : 0;
    const stops = Array.from({ length: 65 }, (_, at) => {
      const strength = low + (1 - low) * at / 64;
      const alpha = Math.abs(strength) < look.threshold ? 0 : 1;
      return `rgba(${[...colorOf(strength, look), alpha].join(", ")})`;
    });
    const limit = look.limit > 0 ? look.limit : 1;
    const marks = ticks(low * limit, limit, 5).map(({ value, text }) => {
      return { at: 100 * (value / limit - low) / (1 - low), text };
    });
    const range = `${(low * limit).toPrecision(3)} to ${limit.toPrecision(3)}`;
    return /* @__PURE__ */ React.createElement(
      "div",
      {
        "data-testid": "sfam-colorbar",
        className: "sfam-bar",
        role: "img",
        "aria-label": `Colors from ${range} ${unit}`
      },
      /* @__PURE__ */ React.createElement("style", null, drawing_default),
      /* @__PURE__ */ React.createElement(
        "div",
        {
          className: "sfam-gradient",
          style: { background: `linear-gradient(90deg, ${stops.join(", ")})` }
        },
        marks.map(({ at }) => /* @__PURE__ */ React.createElement("div", { key: at, style: { left: `calc(${at}% - ${at / 100}px)` } }))
      ),
      /* @__PURE__ */ React.createElement("div", { className: "sfam-labels", style: { marginTop: 3 } }, marks.map(({ at, text }) => /* @__PURE__ */ React.createElement(Label, { key: text, at, text }))),
      unit
    );
  }

  // src/decode.ts
  function decode(encoded) {
    const bytes = bytesOf(encoded);
    if (encoded.dtype === "f4") return new Float32Array(bytes.buffer);
    if (encoded.dtype === "f2") return Float32Array.from(new Uint16Array(bytes.buffer), half);
    if (encoded.dtype === "i4") return Float32Array.from(new Int32Array(bytes.buffer));
    if (encoded.dtype === "u1") return Float32Array.from(bytes);
    return Float32Array.from(new Int8Array(bytes.buffer), (value) => value * encoded.scale);
  }
  function integers(encoded) {
    if (encoded.dtype !== "i4") throw new Error(`Expected integers, got ${encoded.dtype}.`);
    return new Int32Array(bytesOf(encoded).buffer);
  }
  function colorTable(encoded) {
    if (encoded.dtype !== "u1") throw new Error(`Expected bytes, got ${encoded.dtype}.`);
    return bytesOf(encoded);
  }
  var SIZES = { f4: 4, f2: 2, i4: 4, i1: 1, u1: 1 };
  function bytesOf(encoded) {
    const text = atob(encoded.data);
    const bytes = new Uint8Array(text.length);
    for (let at = 0; at < text.length; at++) bytes[at] = text.charCodeAt(at);
    const expected = encoded.shape.reduce((product, size) => product * size, SIZES[encoded.dtype]);
    if (expected !== bytes.length) {
      throw new Error(
        `An array of shape ${encoded.shape} has ${bytes.length} bytes instead of ${expected}.`
      );
    }
    return bytes;
  }
  function half(bits) {
    const sign = bits & 32768 ? -1 : 1;
    const exponent = bits >> 10 & 31;
    const fraction = bits & 1023;
    if (exponent === 0) return sign * fraction * 2 ** -24;
    if (exponent === 31) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
    return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
  }

  // src/geometry.ts
  var FIT = { scale: 1, x: 0.5, y: 0.5 };
  var GAP = 8;
  var LARGEST = 64;
  var SLIMMEST = 1 / 40;
  function sizeOf(image) {
    const { full, width, height } = image.picture;
    const known = [full, [width, height], [image.shape[1], image.shape[0]]].find(
      ([w2 = 0, h2 = 0]) => w2 > 0 && h2 > 0
    );
    const [w = 1, h = 1] = known ?? [1, 1];
    return [Math.max(w, h * SLIMMEST), Math.max(h, w * SLIMMEST)];
  }
  function fitted(frame, [w, h]) {
    const scale = Math.min(frame.width / w, frame.height / h);
    const [width, height] = [w * scale, h * scale];
    return {
      x: frame.x + (frame.width - width) / 2,
      y: frame.y + (frame.height - height) / 2,
      width,
      height
    };
  }
  function halves(frame, stacked) {
    const width = stacked ? frame.width : Math.max((frame.width - GAP) / 2, 1);
    const height = stacked ? Math.max((frame.height - GAP) / 2, 1) : frame.height;
    const second = stacked ? { y: frame.y + height + GAP } : { x: frame.x + width + GAP };
    return [
      { ...frame, width, height },
      { ...frame, ...second, width, height }
    ];
  }
  function layout(width, height, a, b) {
    const whole = { x: 0, y: 0, width: Math.max(width, 1), height: Math.max(height, 1) };
    const options = [false, true].map((stacked) => {
      const frames = halves(whole, stacked);
      const shown2 = [fitted(frames[0], a), fitted(frames[1], b)];
      return { stacked, frames, area: shown2.reduce((sum, at) => sum + at.width * at.height, 0) };
    });
    return largest(options);
  }
  function arrange(width, height, a, b, mode) {
    const names = ["query", "neighbor"];
    if (mode !== "side") {
      const { stacked: stacked2, frames: frames2 } = layout(width, height, a, b);
      const what = mode === "maps" ? "map" : "overlay";
      return { stacked: stacked2, views: names.map((side, at) => ({ side, what, frame: frames2[at] })) };
    }
    const twice = ([w, h], below2) => below2 ? [w, 2 * h] : [2 * w, h];
    const options = [0, 1, 2, 3].map((choice) => {
      const below2 = [choice % 2 === 1, choice > 1];
      return { below: below2, ...layout(width, height, twice(a, below2[0]), twice(b, below2[1])) };
    });
    const { below, stacked, frames } = largest(options);
    const views = names.flatMap((side, at) => {
      const [picture, map] = halves(frames[at], below[at]);
      return [
        { side, what: "picture", frame: picture },
        { side, what: "map", frame: map }
      ];
    });
    return { stacked, views };
  }
  function largest(options) {
    return options.reduce((best, option) => option.area > best.area * 1.0001 ? option : best);
  }
  function placed(frame, size, zoom) {
    const fit = fitted(frame, size);
    const [width, height] = [fit.width * zoom.scale, fit.height * zoom.scale];
    return {
      x: frame.x + frame.width / 2 - zoom.x * width,
      y: frame.y + frame.height / 2 - zoom.y * height,
      width,
      height
    };
  }
  function contains(rect, x, y) {
    return x >= rect.x && y >= rect.y && x < rect.x + rect.width && y < rect.y + rect.height;
  }
  function partOf(image, [left, top, right, bottom]) {
    return {
      x: image.x + left * image.width,
      y: image.y + top * image.height,
      width: (right - left) * image.width,
      height: (bottom - top) * image.height
    };
  }
  function cellAt(x, y, image, shape, box) {
    const part = partOf(image, box);
    const row = Math.floor((y - part.y) / part.height * shape[0]);
    const column = Math.floor((x - part.x) / part.width * shape[1]);
    const inside = row >= 0 && column >= 0 && row < shape[0] && column < shape[1];
    return inside ? { row, column } : null;
  }
  function cellRect(cell, image, shape, box) {
    const part = partOf(image, box);
    const [width, height] = [part.width / shape[1], part.height / shape[0]];
    return { x: part.x + cell.column * width, y: part.y + cell.row * height, width, height };
  }
  function bounded(scale, x, y) {
    const edge = 0.5 / scale;
    const within = (value) => Math.min(Math.max(value, edge), 1 - edge);
    return { scale, x: within(x), y: within(y) };
  }
  function zoomAround(zoom, factor, u, v) {
    const scale = Math.min(Math.max(zoom.scale * factor, 1), LARGEST);
    const kept = zoom.scale / scale;
    return bounded(scale, u - (u - zoom.x) * kept, v - (v - zoom.y) * kept);
  }
  function panned(zoom, du, dv) {
    return bounded(zoom.scale, zoom.x - du, zoom.y - dv);
  }
  function otherSide(side) {
    return side === "query" ? "neighbor" : "query";
  }
  function gridOf(points, side) {
    return side === "query" ? { shape: points.queryShape, box: points.queryBox } : { shape: points.neighborShape, box: points.neighborBox };
  }
  function matched(points, side, row, column) {
    const { shape } = gridOf(points, side);
    if (row < 0 || column < 0 || row >= shape[0] || column >= shape[1]) return null;
    const other = gridOf(points, otherSide(side)).shape;
    const count = other[0] * other[1];
    const at = row * shape[1] + column;
    const values = new Float32Array(count);
    const [start, stride] = side === "query" ? [at * count, 1] : [at, shape[0] * shape[1]];
    for (let k = 0; k < count; k++) values[k] = points.values[start + k * stride];
    const match = { values, shape: other, share: 0, limit: 0, best: null };
    let most = 0;
    values.forEach((value, k) => {
      match.share += value;
      match.limit = Math.max(match.limit, Math.abs(value));
      if (value > most) {
        most = value;
        match.best = { row: Math.floor(k / other[1]), column: k % other[1] };
      }
    });
    return match;
  }
  function moved(from, dRow, dColumn, points, stacked) {
    const [rows, columns] = gridOf(points, from.side).shape;
    const [row, column] = [from.row + dRow, from.column + dColumn];
    const outward = from.side === "query" ? 1 : -1;
    const [along, cells] = stacked ? [row, rows] : [column, columns];
    const over = outward > 0 ? along >= cells : along < 0;
    if (over) {
      const side = otherSide(from.side);
      const [r, c] = gridOf(points, side).shape;
      const edge = outward > 0 ? 0 : (stacked ? r : c) - 1;
      const across = (place, of, to) => Math.floor((place + 0.5) / of * to);
      return stacked ? { side, row: edge, column: across(from.column, columns, c) } : { side, row: across(from.row, rows, r), column: edge };
    }
    const within = (value, count) => Math.min(Math.max(value, 0), count - 1);
    return { side: from.side, row: within(row, rows), column: within(column, columns) };
  }

  // src/pictures.ts
  var KEPT = 96;
  var pictures = /* @__PURE__ */ new Map();
  function pictureOf(url, then) {
    let loaded = pictures.get(url);
    if (loaded) {
      pictures.delete(url);
    } else {
      loaded = { image: new Image(), state: "loading", waiting: /* @__PURE__ */ new Set() };
      loaded.image.src = url;
      loaded.image.decode().then(end(loaded, "ready"), end(loaded, "broken"));
    }
    pictures.set(url, loaded);
    if (then && loaded.state === "loading") loaded.waiting.add(then);
    for (const oldest of pictures.keys()) {
      if (pictures.size <= KEPT) break;
      pictures.delete(oldest);
    }
    return loaded;
  }
  function end(loaded, state) {
    return () => {
      loaded.state = state;
      for (const call of loaded.waiting) call();
      loaded.waiting.clear();
    };
  }
  function preload(urls) {
    for (const url of urls) if (url) pictureOf(url);
  }

  // src/painting.ts
  var DETAIL = 384;
  var PIXELATED = 8;
  var MAGNIFIED = 3;
  var SMALLEST = 6;
  var BADGE = 9;
  function imageRect(scene, view) {
    return placed(view.frame, sizeOf(scene[view.side]), scene.zoom);
  }
  function dividerOf(scene, view) {
    if (!scene.swipe || view.side !== "neighbor") return null;
    const images = [scene.neighbor, scene.swipe];
    const shown2 = images.map((image) => fitted(view.frame, sizeOf(image)));
    const width = Math.max(...shown2.map((at) => at.width));
    return Math.min(...shown2.map((at) => at.x)) + scene.split * width;
  }
  function visible(scene, view) {
    const divider = dividerOf(scene, view);
    return divider === null ? view.frame : { ...view.frame, width: divider - view.frame.x };
  }
  function paintViews(ctx, scene, changed) {
    for (const view of scene.views) {
      const image = scene[view.side];
      const first = visible(scene, view);
      clipped(ctx, first, () => paintImage(ctx, scene, view.what, image, imageRect(scene, view)));
      const { swipe } = scene;
      if (!swipe || view.side !== "neighbor") continue;
      const at = placed(view.frame, sizeOf(swipe), scene.zoom);
      const x = first.x + first.width;
      const second = { ...view.frame, x, width: view.frame.width - first.width };
      clipped(ctx, second, () => paintImage(ctx, scene, view.what, swipe, at));
    }
    const urls = [scene.query, scene.neighbor, scene.swipe].map((image) => image?.picture.url);
    return urls.filter((url) => url && pictureOf(url, changed).state === "loading").length === 0;
  }
  function clipped(ctx, rect, draw) {
    ctx.save();
    ctx.beginPath();
    ctx.rect(rect.x, rect.y, rect.width, rect.height);
    ctx.clip();
    draw();
    ctx.restore();
  }
  function paintImage(ctx, scene, what, image, at) {
    const { look } = scene;
    const { values, shape, box } = image;
    if (what !== "map") paintPicture(ctx, image, at);
    if (what === "picture" || !values) return;
    const solid = what === "map";
    const raster = rasterOf(values, "", values, shape, sizeOfPart(image, box), look, solid);
    ctx.globalAlpha = solid ? 1 : look.opacity;
    drawScaled(ctx, raster, partOf(at, box), look.smooth);
    ctx.globalAlpha = 1;
  }
  function paintPicture(ctx, image, at) {
    const loaded = image.picture.url ? pictureOf(image.picture.url) : null;
    if (loaded?.state !== "ready") return;
    drawScaled(ctx, loaded.image, at, at.width < PIXELATED * loaded.image.naturalWidth);
  }
  function drawScaled(ctx, source, at, smooth) {
    ctx.imageSmoothingEnabled = smooth;
    ctx.imageSmoothingQuality = "high";
    ctx.drawImage(source, at.x, at.y, at.width, at.height);
  }
  function sizeOfPart(image, [left, top, right, bottom]) {
    const [width, height] = sizeOf(image);
    return [width * (right - left), height * (bottom - top)];
  }
  var rasters = /* @__PURE__ */ new WeakMap();
  var tables = [];
  function rasterOf(owner, name, values, shape, size, look, solid) {
    const { limit, signed, diverging, threshold, table, smooth } = look;
    if (!tables.includes(table)) tables.push(table);
    const detail = smooth ? DETAIL / Math.max(...size) : 0;
    const width = Math.max(shape[1], Math.ceil(size[0] * detail));
    const height = Math.max(shape[0], Math.ceil(size[1] * detail));
    const colors = [limit, signed, diverging, threshold, solid, tables.indexOf(table)];
    const key = [name, width, height, ...shape, ...colors].join();
    const kept = rasters.get(owner);
    if (kept?.key === key) return kept.canvas;
    const canvas = kept?.canvas ?? document.createElement("canvas");
    if (canvas.width !== width) canvas.width = width;
    if (canvas.height !== height) canvas.height = height;
    const pixels = colored(values, shape, [width, height], look, solid);
    canvas.getContext("2d")?.putImageData(new ImageData(pixels, width, height), 0, 0);
    rasters.set(owner, { key, canvas });
    return canvas;
  }
  function paintPointing(ctx, scene, active, pointer) {
    const { points, pins } = scene;
    if (points) {
      if (active) paintMatches(ctx, scene, points, active);
      pins.forEach((pin, at2) => {
        paintPin(ctx, scene, points, pin, at2);
      });
    }
    if (!scene.loupe || !pointer) return;
    const at = imageRect(scene, pointer.view);
    const [u, v] = [(pointer.x - at.x) / at.width, (pointer.y - at.y) / at.height];
    for (const view of scene.views) paintLoupe(ctx, scene, view, u, v);
  }
  function paintMatches(ctx, scene, points, active) {
    const match = matched(points, active.side, active.row, active.column);
    if (!match) return;
    const side = otherSide(active.side);
    const { smooth, mode } = scene.look;
    const { shape, box } = gridOf(points, side);
    const look = { ...MATCHES, limit: match.limit, smooth };
    const name = `${active.side} ${active.row} ${active.column}`;
    const size = sizeOfPart(scene[side], box);
    const raster = rasterOf(points, name, match.values, shape, size, look, false);
    for (const view of scene.views) {
      if (view.side !== side || view.what === "map" && mode === "side") continue;
      const at = imageRect(scene, view);
      clipped(ctx, visible(scene, view), () => {
        if (view.what !== "map") paintPicture(ctx, scene[side], at);
        ctx.fillStyle = view.what === "map" ? "#282828" : "rgba(0, 0, 0, 0.55)";
        ctx.fillRect(at.x - 1, at.y - 1, at.width + 2, at.height + 2);
        ctx.globalAlpha = 0.85;
        drawScaled(ctx, raster, partOf(at, box), smooth);
        ctx.globalAlpha = 1;
      });
    }
    outline(ctx, scene, points, active, "#ffffff", []);
    if (match.best) outline(ctx, scene, points, { side, ...match.best }, "#ffffff", [4, 3]);
  }
  function outline(ctx, scene, points, cell, color, dash) {
    const { shape, box } = gridOf(points, cell.side);
    for (const view of scene.views.filter((one) => one.side === cell.side)) {
      const rect = cellRect(cell, imageRect(scene, view), shape, box);
      const [width, height] = [Math.max(rect.width, SMALLEST), Math.max(rect.height, SMALLEST)];
      const x = rect.x + (rect.width - width) / 2;
      const y = rect.y + (rect.height - height) / 2;
      clipped(ctx, visible(scene, view), () => {
        stroke(ctx, color, dash, () => ctx.rect(x + 1, y + 1, width - 2, height - 2));
      });
    }
  }
  function stroke(ctx, color, dash, path) {
    ctx.beginPath();
    path();
    ctx.lineWidth = 4;
    ctx.strokeStyle = "rgba(0, 0, 0, 0.7)";
    ctx.stroke();
    ctx.setLineDash(dash);
    ctx.lineWidth = 2;
    ctx.strokeStyle = color;
    ctx.stroke();
    ctx.setLineDash([]);
  }
  function middleOf(scene, points, pin) {
    const view = scene.views.find((one) => one.side === pin.side);
    const { shape, box } = gridOf(points, pin.side);
    const cell = cellRect(pin, imageRect(scene, view), shape, box);
    const { x, y, width, height } = view.frame;
    return {
      x: Math.min(Math.max(cell.x + cell.width / 2, x), x + width),
      y: Math.min(Math.max(cell.y + cell.height / 2, y), y + height)
    };
  }
  function paintPin(ctx, scene, points, pin, at) {
    const match = matched(points, pin.side, pin.row, pin.column);
    if (!match) return;
    const bright = COLORS.slice(1);
    const color = bright[at % bright.length];
    const { x, y } = middleOf(scene, points, pin);
    outline(ctx, scene, points, pin, color, []);
    if (match.best) {
      const best = { side: otherSide(pin.side), ...match.best };
      const end2 = middleOf(scene, points, best);
      outline(ctx, scene, points, best, color, []);
      stroke(ctx, color, [], () => {
        ctx.moveTo(x, y);
        ctx.lineTo(end2.x, end2.y);
      });
    }
    stroke(ctx, color, [], () => ctx.arc(x, y, BADGE - 1, 0, 2 * Math.PI));
    ctx.fillStyle = color;
    ctx.fill();
    ctx.fillStyle = "#000000";
    ctx.font = "bold 12px sans-serif";
    ctx.textAlign = "center";
    ctx.textBaseline = "middle";
    ctx.fillText(String(at + 1), x, y + 0.5);
  }
  function paintLoupe(ctx, scene, view, u, v) {
    const at = imageRect(scene, view);
    const [x, y] = [at.x + u * at.width, at.y + v * at.height];
    if (!contains(visible(scene, view), x, y)) return;
    const radius = Math.min(90, 0.3 * Math.min(view.frame.width, view.frame.height));
    const [width, height] = [at.width * MAGNIFIED, at.height * MAGNIFIED];
    const what = view.what === "map" ? "map" : "picture";
    ctx.save();
    ctx.beginPath();
    ctx.arc(x, y, radius, 0, 2 * Math.PI);
    ctx.clip();
    ctx.fillStyle = "#808080";
    ctx.fill();
    const rect = { x: x - u * width, y: y - v * height, width, height };
    paintImage(ctx, scene, what, scene[view.side], rect);
    ctx.restore();
    stroke(ctx, "#ffffff", [], () => ctx.arc(x, y, radius, 0, 2 * Math.PI));
  }

  // src/surface.ts
  var CLICK = 4;
  var BESIDE = 14;
  var BESIDE_LOUPE = 66;
  var Surface = class {
    constructor(root, pictures2, pointing, text, scene) {
      this.root = root;
      this.pictures = pictures2;
      this.pointing = pointing;
      this.text = text;
      this.scene = scene;
      this.pointer = null;
      this.cursor = null;
      this.press = null;
      this.frame = 0;
      this.stale = true;
      // the pictures have to be painted again
      this.complete = false;
      // all of them were there
      this.painted = 0;
      this.loaded = () => this.request(true);
    }
    /** Take over a new state of the component. */
    show(scene) {
      this.scene = scene;
      if (this.pointer) this.pointer = this.pointerAt(this.pointer.x, this.pointer.y);
      this.request(true);
    }
    stop() {
      cancelAnimationFrame(this.frame);
      this.frame = -1;
    }
    request(pictures2) {
      this.stale ||= pictures2;
      if (this.frame === 0) this.frame = requestAnimationFrame(() => this.paint());
    }
    paint() {
      this.frame = 0;
      const { scene } = this;
      if (this.stale) {
        const ctx2 = cleared(this.pictures, this.root);
        this.stale = false;
        this.complete = ctx2 !== null && paintViews(ctx2, scene, this.loaded);
      }
      const active = this.active();
      const ctx = cleared(this.pointing, this.root);
      if (ctx) paintPointing(ctx, scene, active, this.pointer);
      this.write(active);
      if (this.complete) this.root.dataset.painted = String(++this.painted);
    }
    /** The cell whose matches are shown: under the mouse, at the cursor, or pinned last. */
    active() {
      return this.cellUnder(this.pointer) ?? this.cursor ?? this.scene.pins.at(-1) ?? null;
    }
    write(active) {
      const { text, root } = this;
      const { points } = this.scene;
      const match = active && points && matched(points, active.side, active.row, active.column);
      text.style.visibility = match ? "visible" : "hidden";
      text.textContent = match ? shareText(match.share, points.similarity) : "";
      if (!match || !points) return;
      const at = this.cellUnder(this.pointer) && this.pointer;
      const { x, y } = at ?? middleOf(this.scene, points, active);
      const [width, height] = [text.offsetWidth, text.offsetHeight];
      const away = this.scene.loupe && at ? BESIDE_LOUPE : BESIDE;
      const left = x + away + width < root.clientWidth ? x + away : x - away - width;
      const top = y + away + height < root.clientHeight ? y + away : y - away - height;
      text.style.transform = `translate(${Math.max(left, 0)}px, ${Math.max(top, 0)}px)`;
    }
    pointerAt(x, y) {
      const view = this.scene.views.find((one) => contains(one.frame, x, y));
      return view ? { view, x, y } : null;
    }
    cellUnder(pointer) {
      const { scene } = this;
      if (!pointer || !scene.points || this.press?.moved) return null;
      const { view, x, y } = pointer;
      if (x >= (dividerOf(scene, view) ?? Number.POSITIVE_INFINITY)) return null;
      const { shape, box } = gridOf(scene.points, view.side);
      const cell = cellAt(x, y, imageRect(scene, view), shape, box);
      return cell && { side: view.side, ...cell };
    }
    zoomTo(zoom) {
      this.scene = { ...this.scene, zoom };
      this.request(true);
      this.scene.onZoom(zoom);
    }
    pointerOf(event) {
      const rect = this.root.getBoundingClientRect();
      return this.pointerAt(event.clientX - rect.left, event.clientY - rect.top);
    }
    down(event) {
      const at = this.pointerOf(event);
      if (event.button === 0 && at) this.press = { at, zoom: this.scene.zoom, moved: false };
    }
    move(event) {
      this.pointer = this.pointerOf(event);
      const { press, pointer } = this;
      if (press && pointer) {
        const [dx, dy] = [pointer.x - press.at.x, pointer.y - press.at.y];
        if (!press.moved && Math.hypot(dx, dy) > CLICK) {
          press.moved = true;
          this.root.setPointerCapture(event.pointerId);
        }
        if (press.moved && press.zoom.scale > 1) {
          const at = imageRect(this.scene, press.at.view);
          this.zoomTo(panned(press.zoom, dx / at.width, dy / at.height));
        }
      }
      this.request(false);
    }
    up() {
      const { press } = this;
      this.press = null;
      if (press && !press.moved) this.toggle(this.pinAt(press.at) ?? this.cellUnder(press.at));
      this.request(false);
    }
    leave() {
      this.pointer = null;
      this.press = null;
      this.request(false);
    }
    /** Without the keyboard there is no cursor. */
    blur() {
      this.cursor = null;
      this.request(false);
    }
    wheel(event) {
      const at = this.pointerOf(event);
      if (!at || event.deltaY === 0) return;
      event.preventDefault();
      const image = imageRect(this.scene, at.view);
      const lines = event.deltaMode === WheelEvent.DOM_DELTA_PIXEL ? 1 : 16;
      const factor = 2 ** (-Math.max(Math.min(event.deltaY * lines, 400), -400) / 200);
      const [u, v] = [(at.x - image.x) / image.width, (at.y - image.y) / image.height];
      this.zoomTo(zoomAround(this.scene.zoom, factor, u, v));
    }
    reset() {
      this.zoomTo(FIT);
    }
    /** Move the cursor, pin its cell, or put it away; return whether the key is one of these. */
    key(event) {
      const { points, stacked, pins } = this.scene;
      const step = event.shiftKey ? STEPS2[event.key] : void 0;
      if (!points) return false;
      if (step) {
        const start = this.cursor ?? pins.at(-1);
        this.cursor = start ? moved(start, ...step, points, stacked) : central(points);
        this.pointer = null;
      } else if (event.key === "Enter" && this.cursor) {
        this.toggle(this.cursor);
      } else if (event.key === "Escape" && this.cursor) {
        this.cursor = null;
      } else {
        return false;
      }
      this.request(false);
      return true;
    }
    pinAt({ x, y }) {
      const { points, pins } = this.scene;
      if (!points) return null;
      const near = (pin) => {
        const at = middleOf(this.scene, points, pin);
        return Math.hypot(at.x - x, at.y - y) <= BADGE;
      };
      return pins.find(near) ?? null;
    }
    toggle(cell) {
      if (!cell) return;
      const { pins, onPins } = this.scene;
      const others = pins.filter((pin) => !same(pin, cell));
      onPins(others.length < pins.length ? others : [...pins, cell]);
    }
  };
  var STEPS2 = {
    ArrowUp: [-1, 0],
    ArrowDown: [1, 0],
    ArrowLeft: [0, -1],
    ArrowRight: [0, 1]
  };
  function central(points) {
    const [rows, columns] = points.queryShape;
    return { side: "query", row: Math.floor(rows / 2), column: Math.floor(columns / 2) };
  }
  function same(a, b) {
    return a.side === b.side && a.row === b.row && a.column === b.column;
  }
  function cleared(canvas, parent) {
    const ratio = window.devicePixelRatio || 1;
    const width = Math.round(parent.clientWidth * ratio);
    const height = Math.round(parent.clientHeight * ratio);
    if (canvas.width !== width || canvas.height !== height) {
      canvas.width = width;
      canvas.height = height;
    }
    const ctx = canvas.getContext("2d");
    ctx?.setTransform(ratio, 0, 0, ratio, 0, 0);
    ctx?.clearRect(0, 0, parent.clientWidth, parent.clientHeight);
    return ctx;
  }

  // src/stage.tsx
  var { React: React2 } = app;
  function Stage(props) {
    const { query, neighbor, swipe, look, points, hint } = props;
    const root = React2.useRef(null);
    const pictures2 = React2.useRef(null);
    const pointing = React2.useRef(null);
    const text = React2.useRef(null);
    const surface = React2.useRef(null);
    const [[width, height], setSize] = React2.useState([0, 0]);
    const [split, setSplit] = React2.useState(0.5);
    const { views, stacked } = arrange(width, height, sizeOf(query), sizeOf(neighbor), look.mode);
    const scene = { ...props, views, stacked, split };
    React2.useLayoutEffect(() => {
      const element = root.current;
      if (!element || !pictures2.current || !pointing.current || !text.current) return;
      const made = new Surface(element, pictures2.current, pointing.current, text.current, scene);
      surface.current = made;
      const measure = () => setSize([element.clientWidth, element.clientHeight]);
      const observer = new ResizeObserver(measure);
      const wheel = (event) => made.wheel(event);
      measure();
      observer.observe(element);
      element.addEventListener("wheel", wheel, { passive: false });
      return () => {
        made.stop();
        observer.disconnect();
        element.removeEventListener("wheel", wheel);
      };
    }, []);
    React2.useLayoutEffect(() => {
      if (width > 0 && height > 0) surface.current?.show(scene);
    });
    return (
      // biome-ignore lint/a11y/useSemanticElements: no element stands for two images to point at
      /* @__PURE__ */ React2.createElement(
        "div",
        {
          ref: root,
          role: "group",
          tabIndex: 0,
          className: "sfam-stage",
          "data-testid": "sfam-stage",
          "aria-label": "Query and neighbor. Shift and arrows move over the places, Enter pins one.",
          style: {
            cursor: points ? "crosshair" : "default",
            touchAction: props.zoom.scale > 1 ? "none" : "auto"
          },
          onPointerDown: (event) => surface.current?.down(event.nativeEvent),
          onPointerMove: (event) => surface.current?.move(event.nativeEvent),
          onPointerUp: () => surface.current?.up(),
          onPointerCancel: () => surface.current?.leave(),
          onPointerLeave: () => surface.current?.leave(),
          onDoubleClick: () => surface.current?.reset(),
          onBlur: () => surface.current?.blur(),
          onKeyDown: (event) => {
            if (!surface.current?.key(event)) return;
            event.preventDefault();
            event.stopPropagation();
          }
        },
        /* @__PURE__ */ React2.createElement("style", null, drawing_default),
        /* @__PURE__ */ React2.createElement("canvas", { ref: pictures2, "aria-hidden": true }),
        views.map(({ side, what, frame }) => /* @__PURE__ */ React2.createElement(
          Frame,
          {
            key: side + what,
            image: side === "query" ? query : neighbor,
            frame,
            name: what === "map" && look.mode === "side" ? null : `sfam-${side}`
          }
        )),
        /* @__PURE__ */ React2.createElement("canvas", { ref: pointing, className: "sfam-above", "aria-hidden": true }),
        swipe && width > 0 && /* @__PURE__ */ React2.createElement(Divider, { scene, swipe, onSplit: setSplit }),
        /* @__PURE__ */ React2.createElement(
          "div",
          {
            ref: text,
            className: "sfam-pill sfam-hover",
            "data-testid": "sfam-hover",
            "aria-live": "polite"
          }
        ),
        hint && /* @__PURE__ */ React2.createElement("div", { className: "sfam-pill sfam-hint" }, hint)
      )
    );
  }
  function Frame(props) {
    const { image, frame, name } = props;
    const { url, problem } = image.picture;
    const [, again] = React2.useReducer((count) => count + 1, 0);
    const state = url ? pictureOf(url).state : "broken";
    React2.useEffect(() => {
      if (url) pictureOf(url, again);
    }, [url]);
    const sentence = problem ?? (url && state === "broken" ? "The browser cannot show this image." : null);
    return /* @__PURE__ */ React2.createElement(React2.Fragment, null, name && /* @__PURE__ */ React2.createElement(
      "div",
      {
        "data-testid": name,
        role: "img",
        "aria-label": image.label,
        style: styleOf(fitted(frame, sizeOf(image)))
      }
    ), (state === "broken" || sentence) && /* @__PURE__ */ React2.createElement(
      "div",
      {
        className: `sfam-problem${state === "broken" ? " sfam-missing" : ""}`,
        style: styleOf(frame)
      },
      sentence && /* @__PURE__ */ React2.createElement("span", { className: "sfam-pill" }, sentence)
    ));
  }
  function styleOf({ x, y, width, height }) {
    return { left: x, top: y, width: Math.max(width, 1), height: Math.max(height, 1) };
  }
  function Divider(props) {
    const { scene, swipe } = props;
    const view = scene.views.find((one) => one.side === "neighbor");
    if (!view) return null;
    const placeOf = (split) => dividerOf({ ...scene, split }, view) ?? 0;
    const x = placeOf(scene.split);
    const move = (to) => props.onSplit(Math.min(Math.max(to, 0), 1));
    const keys = {
      ArrowLeft: scene.split - 0.05,
      ArrowRight: scene.split + 0.05,
      Home: 0,
      End: 1
    };
    return /* @__PURE__ */ React2.createElement(
      "div",
      {
        role: "slider",
        tabIndex: 0,
        className: "sfam-swipe",
        "data-testid": "sfam-swipe",
        "aria-label": `Divider between ${scene.neighbor.label} and ${swipe.label}`,
        "aria-valuemin": 0,
        "aria-valuemax": 100,
        "aria-valuenow": Math.round(100 * scene.split),
        style: { left: x, top: view.frame.y, height: view.frame.height },
        onPointerDown: (event) => {
          event.stopPropagation();
          event.currentTarget.setPointerCapture(event.pointerId);
        },
        onPointerMove: (event) => {
          const stage = event.currentTarget.parentElement?.getBoundingClientRect();
          if (!stage || !event.currentTarget.hasPointerCapture(event.pointerId)) return;
          event.stopPropagation();
          move((event.clientX - stage.left - placeOf(0)) / (placeOf(1) - placeOf(0)));
        },
        onDoubleClick: (event) => event.stopPropagation(),
        onKeyDown: (event) => {
          const to = keys[event.key];
          if (to === void 0) return;
          event.preventDefault();
          event.stopPropagation();
          move(to);
        }
      },
      /* @__PURE__ */ React2.createElement("span", { className: "sfam-pill", style: { right: 16, maxWidth: x - view.frame.x - 8 } }, scene.neighbor.label),
      /* @__PURE__ */ React2.createElement(
        "span",
        {
          className: "sfam-pill",
          style: { left: 16, maxWidth: view.frame.width - x + view.frame.x }
        },
        swipe.label
      )
    );
  }

  // src/follow.ts
  var { React: React3 } = app;
  function useFollow(session, ready, modal) {
    const read = (name) => app.recoil.useRecoilValue(app.__fos__[name]);
    const selected = [...read("selectedSamples").keys()];
    const open = read("nullableModalSampleId");
    const view = JSON.stringify([read("view"), read("filters")]);
    const samples = open && (modal || !selected.length) ? [open] : selected;
    const followed = samples.join(" ");
    const before = React3.useRef({ followed: "", view });
    React3.useEffect(() => {
      if (!ready || followed === before.current.followed) return;
      before.current.followed = followed;
      void session.follow(samples);
    }, [followed, ready]);
    React3.useEffect(() => {
      if (!ready || view === before.current.view) return;
      before.current.view = view;
      if (session.state.spec.in_view && !session.state.handed) void session.requeue();
    }, [view, ready]);
  }

  // src/keys.ts
  var COMMANDS = {
    ArrowDown: { name: "step", by: 1 },
    ArrowUp: { name: "step", by: -1 },
    ArrowRight: { name: "neighbor", by: 1 },
    ArrowLeft: { name: "neighbor", by: -1 },
    PageDown: { name: "query", by: 1 },
    PageUp: { name: "query", by: -1 },
    "+": { name: "opacity", by: 0.1 },
    "=": { name: "opacity", by: 0.1 },
    "-": { name: "opacity", by: -0.1 },
    u: { name: "undo" },
    m: { name: "map" },
    f: { name: "filters" },
    s: { name: "swipe" },
    l: { name: "loupe" },
    "0": { name: "fit" },
    "?": { name: "help" },
    Escape: { name: "close" }
  };
  var HELP = [
    ["↓ ↑", "Next and previous pair of the queue"],
    ["→ ←", "Next and previous neighbor of the query"],
    ["Page ↓ ↑", "Next and previous query"],
    ["1–9", "Give a verdict, to the selected pairs if there are any"],
    ["U", "Undo the last verdict"],
    ["M", "Next map"],
    ["+ −", "Opacity of the map"],
    ["F", "Filters"],
    ["S", "Swipe between this neighbor and the next"],
    ["L", "Loupe"],
    ["0", "Zoom to fit"],
    ["Esc", "Close, drop the selection, drop the pins"],
    ["?", "These keys"]
  ];
  function commandOf(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || isField(event.target)) return null;
    if (event.shiftKey && event.key.length > 1) return null;
    const known = COMMANDS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (known) return known;
    return /^[1-9]$/.test(event.key) ? { name: "verdict", digit: event.key } : null;
  }
  function isField(target) {
    const element = target;
    if (!element?.tagName) return false;
    if (element.isContentEditable || /^(TEXTAREA|SELECT)$/.test(element.tagName)) return true;
    return element.tagName === "INPUT" && !/^(checkbox|button)$/.test(element.type ?? "");
  }

  // src/parts.tsx
  var { React: React4 } = app;
  function Name(props) {
    const text = props.text ?? props.none ?? "";
    return /* @__PURE__ */ React4.createElement("bdi", { className: "sfam-name", dir: "auto", title: text }, text);
  }
  function Pick(props) {
    return /* @__PURE__ */ React4.createElement("label", { className: "sfam-pick" }, /* @__PURE__ */ React4.createElement("span", null, props.label), /* @__PURE__ */ React4.createElement(
      "select",
      {
        value: props.value === null ? "none" : `=${props.value}`,
        onChange: ({ target }) => props.onPick(target.value === "none" ? null : target.value.slice(1))
      },
      props.none !== void 0 && /* @__PURE__ */ React4.createElement("option", { value: "none" }, props.none),
      props.options.map(({ name, label }) => /* @__PURE__ */ React4.createElement("option", { key: name, value: `=${name}` }, label))
    ));
  }
  function Tick(props) {
    return /* @__PURE__ */ React4.createElement("label", { className: "sfam-tick" }, /* @__PURE__ */ React4.createElement("input", { type: "checkbox", checked: props.on, onChange: () => props.onTick(!props.on) }), props.label);
  }
  function Slide(props) {
    return /* @__PURE__ */ React4.createElement("label", { className: "sfam-pick" }, /* @__PURE__ */ React4.createElement("span", null, props.label), /* @__PURE__ */ React4.createElement(
      "input",
      {
        type: "range",
        min: 0,
        max: 100,
        value: Math.round(props.value * 100),
        onChange: ({ target }) => props.onSlide(Number(target.value) / 100)
      }
    ));
  }
  function Field(props) {
    const [text, setText] = React4.useState(props.value);
    React4.useEffect(() => setText(props.value), [props.value]);
    const enter = () => text !== props.value && props.onEnter(text);
    return /* @__PURE__ */ React4.createElement("label", { className: "sfam-pick" }, /* @__PURE__ */ React4.createElement("span", null, props.label), /* @__PURE__ */ React4.createElement(
      "input",
      {
        type: props.number ? "number" : "text",
        step: "any",
        dir: "auto",
        value: text,
        onChange: ({ target }) => setText(target.value),
        onKeyDown: (event) => event.key === "Enter" && enter(),
        onBlur: enter
      }
    ));
  }
  function Push(props) {
    return /* @__PURE__ */ React4.createElement(
      "button",
      {
        type: "button",
        "aria-label": props.label,
        "aria-pressed": props.on,
        title: props.hint ?? props.label,
        "data-testid": props.testId,
        onClick: props.onPush
      },
      props.children ?? props.label
    );
  }

  // src/strip.tsx
  var { React: React5 } = app;
  function Outcome(props) {
    const outcome = props.opened?.outcomes.find((one) => one.name === props.name);
    return /* @__PURE__ */ React5.createElement("span", { className: "sfam-outcome", style: { background: outcome?.color }, title: outcome?.label }, /* @__PURE__ */ React5.createElement("span", { "aria-hidden": "true" }, outcome?.sign), /* @__PURE__ */ React5.createElement("span", { className: props.words ? "" : "sfam-unseen" }, outcome?.label ?? props.name));
  }
  function Strip(props) {
    const { session, shown: shown2 } = props;
    const { opened: opened2 } = session.state;
    const list = React5.useRef(null);
    React5.useEffect(() => {
      const current = list.current?.querySelector('[aria-current="true"]');
      const { scrollLeft: left = 0, clientWidth: width = 0 } = list.current ?? {};
      if (!current || !list.current) return;
      const [from, to] = [current.offsetLeft, current.offsetLeft + current.offsetWidth];
      if (from < left || to > left + width) list.current.scrollLeft = from - width / 2;
    }, [shown2.neighbor.pair]);
    const label = (one) => `Rank ${one.rank}, similarity ${one.similarity.toFixed(4)}, ${one.outcome}${one.best_true ? ", nearest true match" : ""}, ${one.identity ?? "no identity"}`;
    return /* @__PURE__ */ React5.createElement("div", { className: "sfam-strip", role: "group", "aria-label": "Neighbors of the query", ref: list }, shown2.query.neighbors.map((one) => /* @__PURE__ */ React5.createElement(
      "button",
      {
        type: "button",
        key: one.pair,
        className: one.best_true ? "sfam-card sfam-true" : "sfam-card",
        "data-testid": "sfam-strip-item",
        "data-pair": one.pair,
        "aria-current": one.pair === shown2.neighbor.pair,
        "aria-label": label(one),
        title: label(one),
        onClick: () => session.dispatch({ type: "neighbor", pair: one.pair })
      },
      /* @__PURE__ */ React5.createElement("img", { src: one.picture.url || void 0, alt: "", draggable: false }),
      /* @__PURE__ */ React5.createElement("span", { className: "sfam-line" }, /* @__PURE__ */ React5.createElement(Outcome, { opened: opened2, name: one.outcome }), " ", one.rank, one.best_true && /* @__PURE__ */ React5.createElement("b", { title: "nearest true match" }, " ★")),
      /* @__PURE__ */ React5.createElement("span", null, one.similarity.toFixed(3))
    )));
  }

  // src/queue.tsx
  var { React: React6 } = app;
  var HEIGHT = 60;
  var SETTLED = 80;
  function Row(props) {
    const { session, place, pair, count } = props;
    const { chosen, opened: opened2, outside, two } = session.state;
    const row = session.row(place);
    const verdict = session.verdict(pair);
    const current = place === session.state.place && !outside && !two;
    return /* @__PURE__ */ React6.createElement(
      "div",
      {
        className: "sfam-row",
        style: { top: place * HEIGHT, height: HEIGHT },
        role: "option",
        tabIndex: -1,
        id: `sfam-row-${place}`,
        "aria-selected": chosen.has(pair),
        "aria-current": current,
        "aria-posinset": place + 1,
        "aria-setsize": count,
        "data-testid": "sfam-queue-row",
        "data-pair": pair,
        onClick: (event) => {
          const how = event.shiftKey ? "range" : event.ctrlKey || event.metaKey ? "toggle" : "one";
          session.dispatch({ type: "mark", place, how });
        },
        onKeyDown: () => void 0
      },
      row?.pictures.map((picture, side) => /* @__PURE__ */ React6.createElement("img", { key: side ? "neighbor" : "query", src: picture.url || void 0, alt: "" })),
      row && /* @__PURE__ */ React6.createElement("div", { className: "sfam-cells" }, /* @__PURE__ */ React6.createElement("span", { className: "sfam-line" }, /* @__PURE__ */ React6.createElement(Outcome, { opened: opened2, name: row.outcome }), " rank ", row.rank, ",", " ", row.similarity.toFixed(3)), /* @__PURE__ */ React6.createElement("span", { className: "sfam-line" }, /* @__PURE__ */ React6.createElement(Name, { text: row.identity, none: "?" }), /* @__PURE__ */ React6.createElement("span", null, "→"), /* @__PURE__ */ React6.createElement(Name, { text: row.neighbor_identity, none: "?" })), verdict !== null && /* @__PURE__ */ React6.createElement("span", { className: "sfam-given" }, /* @__PURE__ */ React6.createElement(Name, { text: verdict })))
    );
  }
  function QueueList(props) {
    const { session } = props;
    const { queue, place, handed, spec, chosen, filters } = session.state;
    const list = React6.useRef(null);
    const [seen, setSeen] = React6.useState({ top: 0, height: 600 });
    const look = () => {
      const { scrollTop: top = 0, clientHeight: height = 600 } = list.current ?? {};
      setSeen({ top, height });
    };
    const count = queue?.pairs.length ?? 0;
    const first = Math.max(Math.floor(seen.top / HEIGHT) - 2, 0);
    const last = Math.min(Math.ceil((seen.top + seen.height) / HEIGHT) + 2, count - 1);
    React6.useEffect(() => {
      const observer = new ResizeObserver(look);
      if (list.current) observer.observe(list.current);
      return () => observer.disconnect();
    }, []);
    React6.useEffect(() => {
      const { scrollTop: top = 0, clientHeight: height = 0 } = list.current ?? {};
      const above = place * HEIGHT < top;
      if (list.current && (above || (place + 1) * HEIGHT > top + height))
        list.current.scrollTop = above ? place * HEIGHT : (place + 1) * HEIGHT - height;
    }, [place, queue]);
    React6.useEffect(() => {
      if (last < first) return;
      const timer = setTimeout(() => session.wantRows(first, last), SETTLED);
      return () => clearTimeout(timer);
    }, [first, last, queue, session.client.version]);
    const rows = [];
    for (let at = first; at <= last; at += 1) {
      const pair = queue?.pairs[at];
      rows.push(/* @__PURE__ */ React6.createElement(Row, { key: at, session, place: at, pair, count }));
    }
    return /* @__PURE__ */ React6.createElement("section", { className: "sfam-queue", "aria-label": "Queue" }, /* @__PURE__ */ React6.createElement("div", { className: "sfam-bar" }, /* @__PURE__ */ React6.createElement("b", { "data-testid": "sfam-place" }, count ? place + 1 : 0, " of ", count), !handed && queue && /* @__PURE__ */ React6.createElement("span", null, queue.reviewed, " reviewed"), handed ? /* @__PURE__ */ React6.createElement(React6.Fragment, null, /* @__PURE__ */ React6.createElement(Name, { text: handed.title }), /* @__PURE__ */ React6.createElement(Push, { label: "Leave these pairs", onPush: () => void session.leaveHanded() })) : /* @__PURE__ */ React6.createElement(React6.Fragment, null, /* @__PURE__ */ React6.createElement(
      Pick,
      {
        label: "Order",
        value: spec.order,
        options: session.state.opened?.orders ?? [],
        onPick: (order) => void session.filter({ order: order ?? "" })
      }
    ), /* @__PURE__ */ React6.createElement(
      Push,
      {
        label: "Filters",
        hint: "Filters (F)",
        on: filters,
        onPush: () => session.run({ name: "filters" })
      }
    )), chosen.size > 0 && /* @__PURE__ */ React6.createElement(Push, { label: "Drop selection", onPush: () => session.dispatch({ type: "unmark" }) })), filters && !handed && /* @__PURE__ */ React6.createElement(Filters, { session }), queue?.note && /* @__PURE__ */ React6.createElement("p", { "data-testid": "sfam-queue-note" }, queue.note), /* @__PURE__ */ React6.createElement(
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
      /* @__PURE__ */ React6.createElement("div", { style: { height: count * HEIGHT } }, rows)
    ));
  }
  function Filters(props) {
    const { opened: opened2, run, spec } = props.session.state;
    if (!opened2 || !run) return null;
    const change = (one) => void props.session.filter(one);
    const cameras = run.cameras.map((name) => ({ name, label: name }));
    const number = (text) => text.trim() === "" ? null : Number(text);
    const pick = (label, name, options, none) => (options.length > 0 || spec[name]) && /* @__PURE__ */ React6.createElement(
      Pick,
      {
        label,
        value: spec[name],
        options,
        ...none === void 0 ? {} : { none },
        onPick: (value) => change({ [name]: value })
      }
    );
    return /* @__PURE__ */ React6.createElement("div", { className: "sfam-bar", role: "group", "aria-label": "Filters" }, pick("Outcome", "outcome", opened2.outcomes, "any"), pick("Ranks", "ranks", opened2.ranks), pick("Review", "reviewed", opened2.reviewed, "any"), pick("Suspects", "suspect", run.suspects, "any"), pick("Query camera", "query_camera", cameras, "any"), pick("Neighbor camera", "neighbor_camera", cameras, "any"), /* @__PURE__ */ React6.createElement(
      Field,
      {
        label: "Similarity from",
        number: true,
        value: String(spec.min_similarity ?? ""),
        onEnter: (text) => change({ min_similarity: number(text) })
      }
    ), /* @__PURE__ */ React6.createElement(
      Field,
      {
        label: "to",
        number: true,
        value: String(spec.max_similarity ?? ""),
        onEnter: (text) => change({ max_similarity: number(text) })
      }
    ), /* @__PURE__ */ React6.createElement(
      Field,
      {
        label: "Identity",
        value: spec.identity ?? "",
        onEnter: (text) => change({ identity: text === "" ? null : text })
      }
    ), /* @__PURE__ */ React6.createElement(Tick, { label: "Only the view", on: spec.in_view, onTick: (on) => change({ in_view: on }) }), /* @__PURE__ */ React6.createElement(Push, { label: "Clear filters", onPush: () => void props.session.clearFilters() }));
  }

  // src/client.ts
  var Problem = class extends Error {
    constructor(text, stale = false, lost = false) {
      super(text);
      this.stale = stale;
      this.lost = lost;
    }
  };
  var KEPT2 = { query: 40, correspondences: 8, rows: 40, live: 80 };
  var KEPT_OTHERS = 12;
  var PAUSES = [500, 1e3, 2e3, 4e3, 8e3];
  var BACKGROUND = 2;
  var LOST = "The server of FiftyOne does not answer.";
  var sleep = (ms) => new Promise((done) => setTimeout(done, ms));
  var Client = class {
    constructor(pause = sleep) {
      this.pause = pause;
      this.send = () => void 0;
      this.version = 0;
      this.entries = /* @__PURE__ */ new Map();
      this.tasks = /* @__PURE__ */ new Map();
      this.background = 0;
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
    /** Ask once more for each answer; reject with a Problem. `tries`: whether it may be repeated. */
    async ask(question, params, tries = PAUSES.length) {
      for (let attempt = 0; ; attempt += 1) {
        try {
          return await this.once(question, params);
        } catch (error) {
          const problem = error;
          const pause = PAUSES[attempt];
          if (!problem.lost || attempt >= tries || pause === void 0) throw problem;
          await this.pause(pause);
        }
      }
    }
    once(question, params) {
      return new Promise((resolve, reject) => {
        this.send({ ...params, question }, (reply) => {
          const answer = reply.result;
          if (typeof reply.error === "string") {
            const text = typeof reply.errorMessage === "string" ? reply.errorMessage : reply.error;
            reject(new Problem(`The server failed: ${text.split("\n")[0]}`));
          } else if (reply.error || !answer) reject(new Problem(LOST, false, true));
          else if (answer.problem !== void 0) reject(new Problem(answer.problem, answer.stale));
          else resolve(answer);
        });
      });
    }
    /** Return what is known of an answer, which `want` asks for. */
    read(question, params) {
      return this.entries.get(keyOf(question, params));
    }
    /** Return the value of an answer that has come. */
    value(question, params) {
      const entry = this.read(question, params);
      return entry?.state === "there" ? entry.value : null;
    }
    /** Return all kept answers of a question. */
    values(question) {
      const found = [];
      for (const [key, entry] of this.entries)
        if (key.startsWith(`${question} `) && entry.state === "there") found.push(entry.value);
      return found;
    }
    /** Ask for an answer unless it is there or on its way; what is urgent goes first. */
    want(question, params, urgent = true) {
      const key = keyOf(question, params);
      const known = this.entries.get(key);
      if (known) {
        this.entries.delete(key);
        this.entries.set(key, known);
        const task2 = this.tasks.get(key);
        if (task2 && urgent) this.start(key, true);
        return;
      }
      this.entries.set(key, { state: "waiting" });
      const start = () => {
        this.ask(question, params).then(
          (value) => ({ state: "there", value }),
          (problem) => ({ state: "failed", problem })
        ).then((entry) => {
          if (!task.urgent) this.background -= 1;
          if (this.entries.has(key)) this.entries.set(key, entry);
          this.bound(question);
          this.next();
          this.changed();
        });
      };
      const task = { urgent, start };
      this.tasks.set(key, task);
      if (urgent) this.start(key, true);
      else this.next();
    }
    start(key, urgent) {
      const task = this.tasks.get(key);
      if (!task) return;
      this.tasks.delete(key);
      task.urgent = urgent;
      if (!urgent) this.background += 1;
      task.start();
    }
    next() {
      for (const key of [...this.tasks.keys()]) {
        if (this.background >= BACKGROUND) return;
        this.start(key, false);
      }
    }
    /** Drop the questions in the background that nobody waits for any more. */
    dropWaiting() {
      for (const key of this.tasks.keys()) this.entries.delete(key);
      this.tasks.clear();
    }
    /** Forget answers of a question (all without one), or only those that failed. */
    forget(question, failedOnly = false) {
      for (const [key, entry] of this.entries) {
        const asked = question === void 0 || key.startsWith(`${question} `);
        if (asked && (!failedOnly || entry.state === "failed")) {
          this.entries.delete(key);
          this.tasks.delete(key);
        }
      }
      this.changed();
    }
    bound(question) {
      const keys = [...this.entries].filter(
        ([key, entry]) => key.startsWith(`${question} `) && entry.state !== "waiting"
      );
      const spare = keys.length - (KEPT2[question] ?? KEPT_OTHERS);
      for (const [key] of keys.slice(0, Math.max(spare, 0))) this.entries.delete(key);
    }
  };
  function keyOf(question, params) {
    return `${question} ${JSON.stringify(params)}`;
  }

  // src/store.ts
  var BEST = "best";
  var MOST_CHOSEN = 1e3;
  var MOST_UNDO = 100;
  var OPEN_SPEC = {
    outcome: null,
    ranks: "",
    min_similarity: null,
    max_similarity: null,
    query_camera: null,
    neighbor_camera: null,
    identity: null,
    suspect: null,
    reviewed: null,
    order: "",
    in_view: false
  };
  var START = {
    opened: null,
    run: null,
    spec: OPEN_SPEC,
    handed: null,
    queue: null,
    place: 0,
    pair: null,
    outside: false,
    two: null,
    choices: {
      kind: BEST,
      channel: null,
      signed: false,
      colors: "",
      opacity: 0.6,
      threshold: 0,
      smooth: true,
      mode: "overlay",
      loupe: false,
      swipe: false,
      region: null
    },
    zoom: FIT,
    pins: [],
    filters: false,
    help: false,
    advance: true,
    chosen: /* @__PURE__ */ new Set(),
    anchor: 0,
    given: /* @__PURE__ */ new Map(),
    pending: [],
    undo: [],
    message: null
  };
  function reduce(state, action) {
    switch (action.type) {
      case "opened":
        return opened(state, action.opened);
      case "spec": {
        const spec = { ...state.spec, ...action.change };
        return { ...state, spec, handed: null, chosen: /* @__PURE__ */ new Set(), message: null };
      }
      case "hand":
        return { ...state, handed: action.handed, chosen: /* @__PURE__ */ new Set(), outside: false, two: null };
      case "queue":
        return queued(state, action.queue);
      case "place":
        return toPlace(state, action.place);
      case "step":
        return toPlace(state, state.place + (state.outside ? 0 : action.by));
      case "stepQuery":
        return toPlace(state, placeOfQuery(state, action.by));
      case "neighbor":
        return shown(state, action.pair, { pins: state.pins.filter((pin) => pin.side === "query") });
      case "locate":
        return located(state, action.pair);
      case "two":
        if (action.two) return { ...state, two: action.two, pins: [], zoom: FIT, message: null };
        return { ...state, two: null, pins: [], zoom: FIT };
      case "choose":
        return { ...state, choices: bounded2({ ...state.choices, ...action.change }) };
      case "set":
        return { ...state, ...action.change };
      case "mark":
        return marked(state, action.place, action.how);
      case "unmark":
        return { ...state, chosen: /* @__PURE__ */ new Set() };
      case "give": {
        const pending = [...state.pending, { id: action.id, verdicts: action.verdicts }];
        const undo = action.undone ? state.undo.slice(0, -1) : state.undo;
        return { ...state, pending, undo, message: null };
      }
      case "given":
        return confirmed(state, action.id, action.answer, action.before);
      case "refused": {
        const pending = state.pending.filter((one) => one.id !== action.id);
        const undo = action.undo ? [...state.undo, action.undo] : state.undo;
        return { ...state, pending, undo, message: { text: action.text, retry: false } };
      }
      case "message":
        return { ...state, message: action.message };
    }
  }
  function verdictOf(state, pair, stored) {
    for (let at = state.pending.length - 1; at >= 0; at -= 1) {
      const pending = state.pending[at]?.verdicts;
      if (pending?.has(pair)) return pending.get(pair) ?? null;
    }
    return state.given.has(pair) ? state.given.get(pair) ?? null : stored;
  }
  function soon(state) {
    const { queue, place } = state;
    if (!queue) return [];
    const pairs = [];
    const next = placeOfQuery(state, 1);
    for (const at of [place + 1, next, placeOfQuery(state, 1, next), placeOfQuery(state, -1)]) {
      const pair = queue.pairs[at];
      if (pair !== void 0 && at !== place && !pairs.includes(pair)) pairs.push(pair);
    }
    return pairs;
  }
  function opened(state, answer) {
    const same2 = state.run !== null && state.run.uid === answer.run?.uid;
    const spec = same2 ? state.spec : firstSpec(answer, state.spec.in_view);
    const kept = { ...state, opened: answer, run: answer.run, spec, message: null };
    if (same2) return kept;
    const { queue, place, pair, outside, two, chosen, given, pending, undo, pins, zoom } = START;
    const handed = state.handed && state.handed.uid === answer.run?.uid ? state.handed : null;
    const fields = answer.run?.fields ?? [];
    const region = fields.find((one) => one.name === state.choices.region)?.name ?? null;
    const choices = { ...state.choices, region, channel: null };
    const fresh = { queue, place, pair, outside, two, chosen, given, pending, undo, pins, zoom };
    return { ...kept, ...fresh, handed, choices };
  }
  function firstSpec(answer, in_view) {
    const order = answer.orders[0]?.name ?? "";
    return { ...OPEN_SPEC, order, ranks: answer.ranks[0]?.name ?? "", in_view };
  }
  function queued(state, queue) {
    const kept = { ...state, queue };
    const place = state.pair === null ? -1 : queue.pairs.indexOf(state.pair);
    if (place >= 0) return { ...kept, place, outside: false };
    if (state.pair !== null && state.outside) return { ...kept, place: 0 };
    const pair = queue.pairs[0] ?? null;
    return { ...kept, place: 0, pair, outside: false, pins: [], zoom: FIT };
  }
  function toPlace(state, place) {
    const length = state.queue?.pairs.length ?? 0;
    if (!length) return state;
    const bounded3 = Math.min(Math.max(place, 0), length - 1);
    const pair = state.queue?.pairs[bounded3];
    return shown(state, pair, { place: bounded3, outside: false, pins: [] });
  }
  function shown(state, pair, change) {
    return { ...state, ...change, pair, two: null, message: null };
  }
  function located(state, pair) {
    const place = state.queue ? state.queue.pairs.indexOf(pair) : -1;
    if (place >= 0) return toPlace(state, place);
    return shown(state, pair, { outside: true, pins: [] });
  }
  function placeOfQuery(state, by, from = state.place) {
    const queries = state.queue?.queries ?? new Int32Array();
    let at = from;
    while (at >= 0 && at < queries.length && queries[at] === queries[from]) at += by;
    if (at < 0 || at >= queries.length) return from;
    while (by < 0 && at > 0 && queries[at - 1] === queries[at]) at -= 1;
    return at;
  }
  function bounded2(choices) {
    const unit = (value) => Math.min(Math.max(Math.round(value * 100) / 100, 0), 1);
    const { opacity, threshold } = choices;
    return { ...choices, opacity: unit(opacity), threshold: unit(threshold) };
  }
  function marked(state, place, how) {
    const pairs = state.queue?.pairs;
    const pair = pairs?.[place];
    if (!pairs || pair === void 0) return state;
    if (how === "one") return { ...toPlace(state, place), chosen: /* @__PURE__ */ new Set(), anchor: place };
    const chosen = new Set(state.chosen);
    if (how === "toggle") {
      if (!chosen.delete(pair)) chosen.add(pair);
    } else {
      const [from, to] = [Math.min(state.anchor, place), Math.max(state.anchor, place)];
      for (const one of pairs.subarray(from, to + 1)) chosen.add(one);
    }
    const anchor = how === "toggle" ? place : state.anchor;
    if (chosen.size <= MOST_CHOSEN) return { ...state, chosen, anchor };
    const text = `At most ${MOST_CHOSEN} pairs can be selected; the first ${MOST_CHOSEN} are.`;
    const first = new Set([...chosen].slice(0, MOST_CHOSEN));
    return { ...state, chosen: first, anchor, message: { text, retry: false } };
  }
  function confirmed(state, id, answer, before) {
    const given = new Map(state.given);
    for (const { pair, verdict } of answer.verdicts) given.set(pair, verdict);
    const pending = state.pending.filter((one) => one.id !== id);
    const undo = before ? [...state.undo, { previous: answer.previous, before }].slice(-MOST_UNDO) : state.undo;
    return { ...state, given, pending, undo };
  }

  // src/session.ts
  var PATH = "path";
  var CHANNEL = "channel";
  var PAGE = 30;
  var REST = 400;
  var Session = class {
    constructor(client = new Client()) {
      this.client = client;
      this.state = START;
      this.last = null;
      this.serial = 0;
      this.latest = /* @__PURE__ */ new Map();
      this.writing = Promise.resolve();
      this.rested = null;
    }
    dispatch(action) {
      const pair = this.state.pair;
      this.state = reduce(this.state, action);
      if (this.state.pair !== pair) this.rest();
      this.client.changed();
    }
    /** Run a question of which only the latest answer counts; another one makes it void. */
    async newest(name, asked) {
      this.serial += 1;
      const mine = this.serial;
      this.latest.set(name, mine);
      try {
        const answer = await asked;
        return this.latest.get(name) === mine ? answer : null;
      } catch (error) {
        if (this.latest.get(name) === mine) this.fail(error);
        return null;
      }
    }
    fail(problem) {
      if (problem.stale) void this.reopen(problem.message);
      else this.dispatch({ type: "message", message: { text: problem.message, retry: true } });
    }
    of(more = {}) {
      return { run: this.state.run?.key, uid: this.state.run?.uid, ...more };
    }
    // --- runs and queues ---------------------------------------------------------------------
    async open(run) {
      const asked = this.client.ask("open", run === void 0 ? {} : { run });
      const opened2 = await this.newest("open", asked);
      if (!opened2) return;
      this.client.dropWaiting();
      this.client.forget();
      this.dispatch({ type: "opened", opened: opened2 });
      if (opened2.run) await this.requeue();
    }
    /** Open again after the run was deleted or made anew, and say so. */
    async reopen(text) {
      await this.open(this.state.run?.key);
      this.dispatch({ type: "message", message: { text, retry: false } });
    }
    async requeue() {
      const { run, spec, handed } = this.state;
      if (!run) return;
      this.dispatch({ type: "message", message: null });
      if (handed) {
        this.latest.delete("queue");
        await this.enqueue(handed);
        return;
      }
      const asked = this.client.ask("queue", this.of({ spec }));
      const answer = await this.newest("queue", asked);
      if (!answer) return;
      const { reviewed, note } = answer;
      const [pairs, queries] = [integers(answer.pairs), integers(answer.queries)];
      this.dispatch({ type: "queue", queue: { pairs, queries, reviewed, note } });
    }
    /** Show the pairs that were handed over. Which are of one query is learned from their rows. */
    async enqueue(handed) {
      const pairs = Int32Array.from(handed.pairs);
      const note = pairs.length ? null : "No pairs were handed over.";
      const queries = Int32Array.from(pairs, (_, at) => -1 - at);
      this.dispatch({ type: "queue", queue: { pairs, queries, reviewed: 0, note } });
    }
    async handOver(handed) {
      if (this.state.run?.uid !== handed.uid) await this.open(handed.run);
      if (this.state.run?.uid !== handed.uid) {
        const text = `The run '${handed.run}' of "${handed.title}" was deleted or made again.`;
        this.dispatch({ type: "message", message: { text, retry: false } });
        return;
      }
      this.dispatch({ type: "hand", handed });
      await this.requeue();
    }
    async leaveHanded() {
      this.dispatch({ type: "hand", handed: null });
      await this.requeue();
    }
    clearFilters() {
      const { order, in_view } = this.state.spec;
      const ranks = this.state.opened?.ranks[0]?.name ?? "";
      return this.filter({ ...OPEN_SPEC, order, ranks, in_view });
    }
    async filter(change) {
      this.dispatch({ type: "spec", change });
      await this.requeue();
    }
    /** Repeat what failed. */
    async again() {
      this.dispatch({ type: "message", message: null });
      this.client.forget(void 0, true);
      if (!this.state.opened) await this.open();
      else if (!this.state.queue) await this.requeue();
    }
    // --- the App -----------------------------------------------------------------------------
    /** Follow the samples that are selected in the grid, or the one that is open. */
    async follow(samples) {
      const [one, two] = samples;
      if (samples.length === 2 && one && two) return this.explain([one, two], null);
      this.latest.delete("selected");
      if (this.state.two) this.dispatch({ type: "two", two: null });
      if (samples.length !== 1 || !this.state.run) return;
      const shown2 = this.state.pair;
      const asked = this.client.ask("locate", this.of({ sample: one, shown: shown2 }));
      const located2 = await this.newest("selected", asked);
      if (located2 && located2.pair !== null) this.dispatch({ type: "locate", pair: located2.pair });
    }
    /** Show two samples: their pair of the run, or explained by a model. */
    async explain(samples, model) {
      const run = this.state.run ? this.of() : {};
      const params = { samples, ...run, ...model === null ? {} : { model } };
      const asked = this.client.ask("selected", params);
      const answer = await this.newest("selected", asked);
      if (!answer) return;
      if (answer.pair !== null) this.dispatch({ type: "locate", pair: answer.pair });
      else if (answer.query) {
        const two = { samples: [...samples], model, query: answer.query };
        this.dispatch({ type: "two", two });
      }
    }
    async show(what) {
      await this.newest("show", this.client.ask("show", this.of({ pair: this.state.pair, what })));
    }
    async explainRetrieval() {
      await this.newest("show", this.client.ask("explain", {}));
    }
    // --- what is shown -----------------------------------------------------------------------
    queryParams(pair) {
      const region = this.state.choices.region;
      return this.of(region === null ? { pair } : { pair, region });
    }
    find(pair) {
      const exact = this.client.value("query", this.queryParams(pair));
      const among = exact ? [exact] : this.client.values("query");
      for (const query of among) {
        const index = query.neighbors.findIndex((one) => one.pair === pair);
        const neighbor = query.neighbors[index];
        if (neighbor) return { query, neighbor, index };
      }
      return null;
    }
    /** Return what is to be shown, or what was until it is there; ask for what is missing. */
    shown() {
      const { two, pair } = this.state;
      const neighbor = two?.query.neighbors[0];
      if (two && neighbor) {
        this.last = { query: two.query, neighbor, index: 0 };
        return { shown: this.last, current: true, problem: null };
      }
      if (pair === null || !this.state.run) return { shown: null, current: true, problem: null };
      const found = this.find(pair);
      if (found) {
        this.last = found;
        return { shown: found, current: true, problem: null };
      }
      const entry = this.client.read("query", this.queryParams(pair));
      const problem = entry?.state === "failed" ? entry.problem : null;
      return { shown: this.last, current: false, problem };
    }
    /** Ask for what is shown and what will be shown soon. */
    fetch() {
      const { pair, two, run, choices } = this.state;
      const { shown: shown2, current } = this.shown();
      if (shown2 && current) {
        this.client.want("correspondences", this.about(shown2.neighbor.pair));
        this.wantMap(shown2);
        if (choices.kind === CHANNEL) this.client.want("channels", this.of({ pair }), false);
      }
      if (two || pair === null || !run) return;
      if (!current) this.client.want("query", this.queryParams(pair));
      for (const next2 of soon(this.state)) {
        const there = this.find(next2);
        if (!there) this.client.want("query", this.queryParams(next2), false);
        else {
          const pictures2 = [there.query.picture, there.neighbor.picture];
          preload(pictures2.map((picture) => picture.url));
        }
      }
      const next = this.state.queue?.pairs[this.state.place + 1];
      if (current && next !== void 0 && !this.state.outside)
        this.client.want("correspondences", this.of({ pair: next }), false);
    }
    /** Let the best map be computed once a pair has been shown for a moment. */
    rest() {
      const pair = this.state.pair;
      setTimeout(() => {
        if (this.state.pair !== pair) return;
        this.rested = pair;
        this.client.changed();
      }, REST);
    }
    /** What a question is about: a pair of the run, or the two selected samples. */
    about(pair, more = {}) {
      const { two, run } = this.state;
      if (!two) return this.of({ pair, ...more });
      const model = two.model === null ? {} : { model: two.model };
      return { ...run ? this.of() : {}, samples: two.samples, ...model, ...more };
    }
    liveParams(kind, pair) {
      const channel = kind === CHANNEL ? { channel: this.state.choices.channel } : {};
      if (this.state.two) return this.about(pair, { kind, ...channel });
      return this.of({ pairs: [pair], kind, ...channel });
    }
    wantMap({ query, neighbor }) {
      const { kind, channel } = this.state.choices;
      const chosen = this.chosen(query);
      if (!chosen?.live || kind === BEST && this.rested !== this.state.pair) return;
      if (kind === CHANNEL && channel === null) return;
      this.client.want("live", this.liveParams(chosen.name, neighbor.pair), kind !== BEST);
    }
    /** The kind of map that is chosen; of the best, the path of several scales. */
    chosen(query) {
      const wanted = this.state.choices.kind === BEST ? PATH : this.state.choices.kind;
      return query.kinds.find((one) => one.name === wanted);
    }
    /** Return the map that is drawn, the stored one until the chosen one has been computed. */
    map(shown2) {
      const first = shown2.query.kinds.find((one) => !one.live) ?? shown2.query.kinds[0];
      const kind = this.chosen(shown2.query) ?? first;
      if (!kind || !first) return null;
      if (!kind.live) return { kind, live: null, waiting: null, problem: null };
      const params = this.liveParams(kind.name, shown2.neighbor.pair);
      const entry = this.client.read("live", params);
      const live = entry?.state === "there" ? entry.value : null;
      if (live) return { kind, live, waiting: null, problem: null };
      const problem = entry?.state === "failed" ? entry.problem : null;
      return { kind: first, live: null, waiting: problem ? null : kind, problem };
    }
    /** Largest value of a kind of map over the shown neighbors of a query. */
    limit(shown2, map, signed) {
      const stored = shown2.query.limits[map.kind.name];
      const limits = map.live ? [map.live.limit] : stored ? [stored] : [];
      if (map.live)
        for (const { pair } of shown2.query.neighbors) {
          const other = this.client.value("live", this.liveParams(map.kind.name, pair));
          if (other) limits.push(other.limit);
        }
      return Math.max(0, ...limits.map((limit) => signed ? limit.signed : limit.positive));
    }
    points(pair) {
      const entry = this.client.read("correspondences", this.about(pair));
      const problem = entry?.state === "failed" ? entry.problem : null;
      return { points: entry?.state === "there" ? entry.value : null, problem };
    }
    channels(pair) {
      return this.client.value("channels", this.of({ pair }));
    }
    /** Return the row of a place of the queue, if it is there; ask for its page with `want`. */
    row(place) {
      const page = this.client.value("rows", this.of({ pairs: this.page(place) }));
      return page?.rows[place % PAGE] ?? null;
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
    stored(pair) {
      const place = this.state.queue?.pairs.indexOf(pair) ?? -1;
      const row = place < 0 ? null : this.row(place);
      return this.find(pair)?.neighbor.verdict ?? row?.verdict ?? null;
    }
    /** Return the verdict that is shown of a pair. */
    verdict(pair) {
      return verdictOf(this.state, pair, this.stored(pair));
    }
    /** Give a verdict: shown at once, sent in turn, rolled back where it is refused. */
    async give(verdict, pairs) {
      if (!pairs.length || this.state.two) return;
      const id = this.nextId();
      const before = new Map(pairs.map((pair) => [pair, this.verdict(pair)]));
      const verdicts = new Map(pairs.map((pair) => [pair, verdict]));
      const turn = this.state.advance && pairs.length === 1 && pairs[0] === this.state.pair;
      const params = this.of({ pairs, verdict });
      this.dispatch({ type: "give", id, verdicts, undone: false });
      if (turn) this.dispatch({ type: "step", by: 1 });
      await this.write("verdict", params, id, before, null);
    }
    async undo() {
      await this.writing;
      const last = this.state.undo[this.state.undo.length - 1];
      if (!last) return;
      const id = this.nextId();
      const params = this.of({ entries: last.previous });
      this.dispatch({ type: "give", id, verdicts: last.before, undone: true });
      const [only] = last.before.keys();
      if (last.before.size === 1 && only !== void 0 && only !== this.state.pair)
        this.dispatch({ type: "locate", pair: only });
      await this.write("undo", params, id, null, last);
    }
    async write(question, params, id, before, undo) {
      const uid = this.state.run?.uid;
      const asked = this.writing.then(() => this.client.ask(question, params, 2));
      this.writing = asked.then(
        (answer) => this.state.run?.uid === uid && this.given(id, answer, before),
        (problem) => {
          const what = undo ? "The verdict was not taken back" : "The verdict was not saved";
          const text = `${what}: ${problem.message}`;
          if (problem.stale) void this.reopen(text);
          else this.dispatch({ type: "refused", id, text, undo });
        }
      );
      await this.writing;
    }
    given(id, answer, before) {
      this.dispatch({ type: "given", id, answer, before });
    }
    nextId() {
      this.serial += 1;
      return this.serial;
    }
    // --- commands ----------------------------------------------------------------------------
    /** Turn to the next neighbor of the query, or the previous one. */
    turn(by) {
      const { shown: shown2, current } = this.shown();
      const next = current ? shown2?.query.neighbors[(shown2?.index ?? 0) + by] : void 0;
      if (next && next.pair >= 0) this.dispatch({ type: "neighbor", pair: next.pair });
    }
    /** Show the next map of those that the query has. */
    nextMap() {
      const kinds = this.shown().shown?.query.kinds ?? [];
      const names = [BEST, ...kinds.map((kind2) => kind2.name)];
      const at = names.indexOf(this.state.choices.kind);
      const kind = names[(at + 1) % names.length] ?? BEST;
      this.dispatch({ type: "choose", change: { kind } });
    }
    run(command) {
      const { choices, filters, help, opened: opened2, pair } = this.state;
      if (command.name === "verdict") {
        const verdict = opened2?.verdicts.find((one) => one.key === command.digit);
        const chosen = this.state.chosen.size ? [...this.state.chosen] : pair === null ? [] : [pair];
        if (verdict) void this.give(verdict.name, chosen);
      } else if (command.name === "undo") void this.undo();
      else if (command.name === "step") this.dispatch({ type: "step", by: command.by });
      else if (command.name === "query") this.dispatch({ type: "stepQuery", by: command.by });
      else if (command.name === "neighbor") this.turn(command.by);
      else if (command.name === "map") this.nextMap();
      else if (command.name === "opacity") {
        const opacity = choices.opacity + command.by;
        this.dispatch({ type: "choose", change: { opacity } });
      } else if (command.name === "filters")
        this.dispatch({ type: "set", change: { filters: !filters } });
      else if (command.name === "swipe")
        this.dispatch({ type: "choose", change: { swipe: !choices.swipe } });
      else if (command.name === "loupe")
        this.dispatch({ type: "choose", change: { loupe: !choices.loupe } });
      else if (command.name === "fit") this.dispatch({ type: "set", change: { zoom: FIT } });
      else if (command.name === "help") this.dispatch({ type: "set", change: { help: !help } });
      else this.close();
    }
    /** Close what is open, else drop the selection and the pins. */
    close() {
      if (this.state.help) this.dispatch({ type: "set", change: { help: false } });
      else if (this.state.chosen.size) this.dispatch({ type: "unmark" });
      else this.dispatch({ type: "set", change: { pins: [] } });
    }
  };

  // src/style.ts
  var STYLE = `
.sfam { --line: var(--fo-palette-primary-plainBorder, #8884); --chosen: #ff6d04;
  --text: var(--fo-palette-text-primary, #222); --soft: var(--fo-palette-text-secondary, #666);
  --back: var(--fo-palette-background-level2, #fff); container: sfam / size;
  position: absolute; inset: 0; display: flex; flex-direction: column; gap: 4px; padding: 6px;
  box-sizing: border-box; overflow: auto; color: var(--text); font-size: 13px; line-height: 1.35; }
.sfam *, .sfam *::before { box-sizing: border-box; }
.sfam :focus-visible, .sfam:focus-visible { outline: 2px solid var(--chosen); outline-offset: -2px; }
.sfam button, .sfam select, .sfam input { font: inherit; color: var(--text);
  background: var(--back); border: 1px solid var(--line); border-radius: 4px; padding: 2px 6px; }
.sfam select, .sfam input[type="number"], .sfam input[type="text"] { max-width: 11em; }
.sfam input[type="number"] { width: 5.5em; } .sfam input[type="range"] { width: 80px; padding: 0; }
.sfam button { cursor: pointer; } .sfam button:hover { border-color: var(--text); }
.sfam button[aria-pressed="true"] { border-color: var(--chosen); box-shadow: inset 0 0 0 1px var(--chosen); }
.sfam kbd { font: inherit; color: var(--soft); } .sfam p { margin: 2px 0; }
.sfam-bar { display: flex; flex-wrap: wrap; gap: 4px 8px; align-items: center; flex: none; }
.sfam-bar form { margin: 0; }
.sfam-pick, .sfam-tick { display: inline-flex; gap: 4px; align-items: center; }
.sfam-pick > span, .sfam-note { color: var(--soft); }
.sfam-body { flex: 1 1 auto; display: flex; flex-direction: column; gap: 8px; min-height: 0; }
.sfam-pair { flex: none; display: flex; flex-direction: column; gap: 4px; min-width: 0; }
.sfam-old { opacity: 0.6; }
.sfam-shown { position: relative; height: clamp(200px, 46cqh, 110cqw); }
.sfam-name { display: inline-block; max-width: 100%; overflow: hidden; text-overflow: ellipsis;
  white-space: nowrap; vertical-align: bottom; }
.sfam-who { flex: 1 1 60px; min-width: 0; display: flex; flex-direction: column; }
.sfam-who:last-child { text-align: end; align-items: flex-end; }
.sfam-center { display: flex; flex-wrap: wrap; gap: 2px 8px; justify-content: center; }
.sfam-outcome { color: #fff; border-radius: 3px; padding: 0 4px; white-space: nowrap; }
.sfam-outcome > span + span { margin-inline-start: 4px; }
.sfam-unseen { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
.sfam-strip { position: relative; display: flex; gap: 4px; overflow-x: auto; flex: none; padding: 2px; }
.sfam button.sfam-card { display: flex; flex-direction: column; align-items: center; flex: none;
  padding: 2px; font-size: 11px; border-width: 2px; }
.sfam-card img { height: 64px; min-width: 24px; max-width: 96px; object-fit: contain; }
.sfam button.sfam-true { border-style: dashed; }
.sfam button.sfam-card[aria-current="true"] { border-color: var(--chosen); }
.sfam-line { display: flex; gap: 4px; align-items: center; min-width: 0; white-space: nowrap; }
.sfam-queue { flex: 1 0 240px; display: flex; flex-direction: column; gap: 4px; min-height: 240px; min-width: 0; }
.sfam-list { position: relative; flex: 1 1 0; min-height: 120px; overflow-y: auto; border: 1px solid var(--line); }
.sfam-list > div { position: relative; }
.sfam-row { position: absolute; left: 0; right: 0; display: flex; gap: 4px; padding: 2px; cursor: pointer;
  border-bottom: 1px solid var(--line); border-inline-start: 4px solid transparent; }
.sfam-row img { width: 40px; height: 100%; object-fit: contain; flex: none; }
.sfam-row[aria-current="true"] { border-inline-start-color: var(--chosen); background: var(--line); }
.sfam-row[aria-selected="true"] { box-shadow: inset 0 0 0 2px var(--chosen); }
.sfam-cells { flex: 1 1 0; min-width: 0; font-size: 12px; }
.sfam-given, .sfam-own { color: var(--chosen); font-weight: 600; max-width: 16em; }
.sfam-message { display: flex; gap: 8px; align-items: center; flex: none; padding: 4px 8px;
  border: 1px solid var(--chosen); border-radius: 4px; }
.sfam-message > span { flex: 1 1 auto; overflow-wrap: anywhere; }
.sfam-help { position: absolute; z-index: 5; top: 48px; right: 8px; max-width: calc(100% - 16px);
  padding: 10px; background: var(--back); border: 1px solid var(--line); box-shadow: 0 4px 16px #0006; }
.sfam-help dl { display: grid; grid-template-columns: auto 1fr; gap: 2px 12px; margin: 0 0 8px; }
.sfam-help dd { margin: 0; }
@container sfam (min-width: 760px) {
  .sfam-body { flex-direction: row; }
  .sfam-pair { flex: 1 1 0; overflow: auto; }
  .sfam-shown { flex: 1 0 200px; height: auto; }
  .sfam-queue { flex: 0 0 clamp(240px, 28%, 380px); }
}
`;
  function addStyle() {
    if (document.getElementById("sfam-style")) return;
    const element = document.createElement("style");
    element.id = "sfam-style";
    element.textContent = STYLE;
    document.head.append(element);
  }

  // src/toolbar.tsx
  var { React: React7 } = app;
  var MODES = [
    { name: "overlay", label: "over the image" },
    { name: "side", label: "beside the image" },
    { name: "maps", label: "maps only" }
  ];
  function Toolbar(props) {
    const { session, shown: shown2, map } = props;
    const { opened: opened2, run, choices, two } = session.state;
    const choose = (change) => session.dispatch({ type: "choose", change });
    const signed = choices.signed || (map?.kind.signed ?? false);
    const colors = (opened2?.colors ?? []).filter((one) => one.diverging === signed);
    const color = colors.find((one) => one.name === choices.colors) ?? colors[0];
    const kinds = [{ name: BEST, label: "best available" }, ...shown2?.query.kinds ?? []];
    const channels = choices.kind === CHANNEL && shown2 ? session.channels(shown2.neighbor.pair) : null;
    return /* @__PURE__ */ React7.createElement("div", { className: "sfam-bar", role: "toolbar", "aria-label": "Map" }, (opened2?.runs.length ?? 0) > 1 && /* @__PURE__ */ React7.createElement(
      Pick,
      {
        label: "Run",
        value: run?.key ?? null,
        options: (opened2?.runs ?? []).map((name) => ({ name, label: name })),
        onPick: (name) => void session.open(name ?? void 0)
      }
    ), two && opened2 && /* @__PURE__ */ React7.createElement(
      Pick,
      {
        label: "Model",
        value: two.model,
        options: opened2.models,
        none: "of the run",
        onPick: (model) => void session.explain(two.samples, model)
      }
    ), /* @__PURE__ */ React7.createElement(
      Pick,
      {
        label: "Map",
        value: choices.kind,
        options: kinds,
        onPick: (kind) => choose({ kind: kind ?? BEST })
      }
    ), channels && /* @__PURE__ */ React7.createElement(
      Pick,
      {
        label: "Channel",
        value: choices.channel === null ? null : String(choices.channel),
        options: channels.channels.map(({ channel }) => ({
          name: String(channel),
          label: String(channel)
        })),
        none: "choose",
        onPick: (channel) => choose({ channel: channel === null ? null : Number(channel) })
      }
    ), /* @__PURE__ */ React7.createElement(
      Pick,
      {
        label: "Colors",
        value: color?.name ?? null,
        options: colors,
        onPick: (name) => choose({ colors: name ?? "" })
      }
    ), /* @__PURE__ */ React7.createElement(
      Pick,
      {
        label: "Shown",
        value: choices.mode,
        options: MODES,
        onPick: (mode) => choose({ mode })
      }
    ), /* @__PURE__ */ React7.createElement(Slide, { label: "Opacity", value: choices.opacity, onSlide: (opacity) => choose({ opacity }) }), /* @__PURE__ */ React7.createElement(
      Slide,
      {
        label: "Threshold",
        value: choices.threshold,
        onSlide: (threshold) => choose({ threshold })
      }
    ), /* @__PURE__ */ React7.createElement(Tick, { label: "Signed", on: signed, onTick: (on) => choose({ signed: on }) }), /* @__PURE__ */ React7.createElement(Tick, { label: "Smooth", on: choices.smooth, onTick: (smooth) => choose({ smooth }) }), /* @__PURE__ */ React7.createElement(Tick, { label: "Loupe", on: choices.loupe, onTick: (loupe) => choose({ loupe }) }), /* @__PURE__ */ React7.createElement(Tick, { label: "Swipe", on: choices.swipe, onTick: (swipe) => choose({ swipe }) }), /* @__PURE__ */ React7.createElement(
      Push,
      {
        label: "Zoom to fit",
        onPush: () => session.dispatch({ type: "set", change: { zoom: FIT } })
      }
    ), /* @__PURE__ */ React7.createElement(
      Push,
      {
        label: "Keys",
        hint: "Keys (?)",
        on: session.state.help,
        onPush: () => session.run({ name: "help" })
      }
    ));
  }

  // src/verdicts.tsx
  var { React: React8 } = app;
  function Verdicts(props) {
    const { session } = props;
    const { opened: opened2, chosen, pair, undo, pending, advance } = session.state;
    const [own, setOwn] = React8.useState("");
    const pairs = chosen.size ? [...chosen] : pair === null ? [] : [pair];
    const shown2 = chosen.size || pair === null ? null : session.verdict(pair);
    const known = opened2?.verdicts ?? [];
    const give = (verdict) => void session.give(verdict, pairs);
    return /* @__PURE__ */ React8.createElement("div", { className: "sfam-bar", role: "group", "aria-label": "Verdict" }, /* @__PURE__ */ React8.createElement("span", { role: "status" }, chosen.size ? `${chosen.size} selected:` : pending.length ? "Saving…" : "Verdict:"), known.map(({ name, label, key }) => /* @__PURE__ */ React8.createElement(
      Push,
      {
        key: name,
        label,
        hint: `${label} (${key})`,
        on: shown2 === name,
        testId: `sfam-verdict-${name}`,
        onPush: () => give(name)
      },
      /* @__PURE__ */ React8.createElement("kbd", null, key),
      " ",
      label
    )), shown2 !== null && !known.some(({ name }) => name === shown2) && /* @__PURE__ */ React8.createElement("bdi", { className: "sfam-name sfam-own", dir: "auto", title: shown2 }, shown2), /* @__PURE__ */ React8.createElement(
      "form",
      {
        onSubmit: (event) => {
          event.preventDefault();
          if (own.trim()) give(own.trim());
          setOwn("");
        }
      },
      /* @__PURE__ */ React8.createElement(
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
    ), (undo.length > 0 || pending.length > 0) && /* @__PURE__ */ React8.createElement(Push, { label: "Undo", hint: "Undo (U)", testId: "sfam-undo", onPush: () => void session.undo() }), /* @__PURE__ */ React8.createElement(
      Tick,
      {
        label: "then the next",
        on: advance,
        onTick: (on) => session.dispatch({ type: "set", change: { advance: on } })
      }
    ));
  }

  // src/viewer.tsx
  var { React: React9 } = app;
  var sessions = /* @__PURE__ */ new Map();
  var decoded = /* @__PURE__ */ new WeakMap();
  var tables2 = /* @__PURE__ */ new WeakMap();
  function once(known, encoded, make) {
    const value = known.get(encoded) ?? make(encoded);
    known.set(encoded, value);
    return value;
  }
  function sessionOf(panelId) {
    const session = sessions.get(panelId) ?? new Session();
    sessions.set(panelId, session);
    return session;
  }
  function Viewer(props) {
    const panelId = app.__fosp__.usePanelId();
    const trigger = app.__foo__.usePanelEvent();
    const session = React9.useMemo(() => sessionOf(panelId), [panelId]);
    const operator = props.schema.view.ask;
    session.client.send = (params, done) => {
      const callback = (reply) => {
        done(reply);
        return false;
      };
      trigger(panelId, { operator, params, callback });
    };
    React9.useSyncExternalStore(session.client.subscribe, () => session.client.version);
    const root = React9.useRef(null);
    const [modal, setModal] = React9.useState(false);
    React9.useEffect(() => {
      addStyle();
      const inModal = root.current?.closest('[data-cy="modal"]') !== null;
      setModal(inModal);
      if (!inModal && document.activeElement === document.body) root.current?.focus();
      if (!session.state.opened) void session.open();
      return onHandedOver((handed) => void session.handOver(handed));
    }, [session]);
    useFollow(session, session.state.opened !== null, modal);
    React9.useEffect(() => session.fetch());
    const { opened: opened2, run, two, message, queue } = session.state;
    const { shown: shown2, current, problem } = session.shown();
    const map = shown2 && session.map(shown2);
    const said = message?.text ?? problem?.message ?? null;
    return /* @__PURE__ */ React9.createElement(
      "section",
      {
        className: "sfam",
        "data-testid": "sfam-viewer",
        "aria-label": "SFAM pairs",
        tabIndex: 0,
        ref: root,
        onKeyDown: (event) => {
          const command = event.defaultPrevented ? null : commandOf(event);
          if (!command) return;
          event.preventDefault();
          event.stopPropagation();
          session.run(command);
        }
      },
      said !== null && /* @__PURE__ */ React9.createElement("div", { className: "sfam-message", role: "alert", "data-testid": "sfam-message" }, /* @__PURE__ */ React9.createElement("span", null, said), (message?.retry ?? true) && /* @__PURE__ */ React9.createElement(Push, { label: "Retry", onPush: () => void session.again() }), message && /* @__PURE__ */ React9.createElement(
        Push,
        {
          label: "Dismiss",
          onPush: () => session.dispatch({ type: "message", message: null })
        }
      )),
      (run || two) && /* @__PURE__ */ React9.createElement(Toolbar, { session, shown: shown2, map }),
      !opened2 && said === null && /* @__PURE__ */ React9.createElement("p", { role: "status" }, "Loading…"),
      opened2?.empty && !two && /* @__PURE__ */ React9.createElement("div", { className: "sfam-empty", "data-testid": "sfam-empty" }, /* @__PURE__ */ React9.createElement("p", null, opened2.empty), /* @__PURE__ */ React9.createElement(Push, { label: "Explain the retrieval…", onPush: () => void session.explainRetrieval() }), /* @__PURE__ */ React9.createElement(Push, { label: "Look again", onPush: () => void session.open() })),
      /* @__PURE__ */ React9.createElement("div", { className: "sfam-body" }, shown2 && (two || session.state.pair !== null) && /* @__PURE__ */ React9.createElement(Pair, { session, shown: shown2, map, current }), !shown2 && run && queue && queue.pairs.length > 0 && /* @__PURE__ */ React9.createElement("p", { role: "status" }, "Loading…"), run && /* @__PURE__ */ React9.createElement(QueueList, { session })),
      session.state.help && /* @__PURE__ */ React9.createElement("div", { className: "sfam-help", role: "dialog", "aria-label": "Keys", "data-testid": "sfam-help" }, /* @__PURE__ */ React9.createElement("dl", null, HELP.map(([key, text]) => /* @__PURE__ */ React9.createElement(React9.Fragment, { key }, /* @__PURE__ */ React9.createElement("dt", null, /* @__PURE__ */ React9.createElement("kbd", null, key)), /* @__PURE__ */ React9.createElement("dd", null, text)))), /* @__PURE__ */ React9.createElement(Push, { label: "Close", onPush: () => session.run({ name: "help" }) }))
    );
  }
  function Pair(props) {
    const { session, shown: shown2, map, current } = props;
    const { query, neighbor, index } = shown2;
    const { state } = session;
    const { choices, opened: opened2, run, two } = state;
    const look = lookOf(session, shown2, map);
    const sides = map?.live?.maps[0] ?? neighbor;
    const image = (picture, side, label) => stageImage(picture, side, map, label);
    const next = choices.swipe ? query.neighbors[index + 1] : void 0;
    const { points, problem } = session.points(neighbor.pair);
    const hints = [points ? null : problem?.message ?? null, map?.problem?.message ?? null];
    const notes = [...run?.notes ?? [], ...query.notes, ...points?.notes ?? []];
    return /* @__PURE__ */ React9.createElement("div", { className: current ? "sfam-pair" : "sfam-pair sfam-old", "aria-busy": !current }, /* @__PURE__ */ React9.createElement(Scores, { session, shown: shown2 }), /* @__PURE__ */ React9.createElement(
      "div",
      {
        className: "sfam-shown",
        "data-testid": "sfam-shown",
        "data-pair": current ? neighbor.pair : void 0,
        "data-kind": map?.kind.name,
        "data-place": state.place
      },
      /* @__PURE__ */ React9.createElement(
        Stage,
        {
          query: image(query.picture, sides.query_side, `Query ${query.identity ?? ""}`),
          neighbor: image(
            neighbor.picture,
            sides.neighbor_side,
            `Neighbor ${neighbor.identity ?? ""}`
          ),
          swipe: next ? image(next.picture, next.neighbor_side, `Neighbor ${next.rank}`) : null,
          look,
          zoom: state.zoom,
          onZoom: (zoom) => session.dispatch({ type: "set", change: { zoom } }),
          points: points && pointsOf(points),
          pins: state.pins,
          onPins: (pins) => session.dispatch({ type: "set", change: { pins } }),
          loupe: choices.loupe,
          hint: hints.find((hint) => hint !== null) ?? null
        }
      )
    ), /* @__PURE__ */ React9.createElement("div", { className: "sfam-bar" }, /* @__PURE__ */ React9.createElement("span", { "data-testid": "sfam-map" }, map?.kind.label ?? "no map", map?.waiting && ` (${map.waiting.label} is being computed…)`), /* @__PURE__ */ React9.createElement(ColorBar, { look, unit: map?.kind.unit ?? "" })), /* @__PURE__ */ React9.createElement("div", { className: "sfam-bar" }, /* @__PURE__ */ React9.createElement(Receipt, { shares: neighbor.receipt, total: neighbor.similarity }), run && run.fields.length > 1 && !two && /* @__PURE__ */ React9.createElement(
      Pick,
      {
        label: "Divided by",
        value: choices.region ?? run.fields[0]?.name ?? null,
        options: run.fields,
        onPick: (region) => session.dispatch({ type: "choose", change: { region } })
      }
    )), !two && /* @__PURE__ */ React9.createElement(Strip, { session, shown: shown2 }), !two && opened2 && /* @__PURE__ */ React9.createElement(Verdicts, { session }), !two && /* @__PURE__ */ React9.createElement("div", { className: "sfam-bar" }, /* @__PURE__ */ React9.createElement(Push, { label: "Show in the grid", onPush: () => void session.show("grid") }), /* @__PURE__ */ React9.createElement(Push, { label: "Open the query", onPush: () => void session.show("query") }), /* @__PURE__ */ React9.createElement(Push, { label: "Open the neighbor", onPush: () => void session.show("neighbor") })), [...new Set(notes)].map((note) => /* @__PURE__ */ React9.createElement("p", { className: "sfam-note", key: note }, note)));
  }
  function Scores(props) {
    const { query, neighbor } = props.shown;
    const { margin } = neighbor;
    return /* @__PURE__ */ React9.createElement("div", { className: "sfam-bar", "data-testid": "sfam-scores" }, /* @__PURE__ */ React9.createElement("span", { className: "sfam-who" }, /* @__PURE__ */ React9.createElement(Name, { text: query.identity, none: "no identity" }), query.camera !== null && /* @__PURE__ */ React9.createElement(Name, { text: query.camera })), /* @__PURE__ */ React9.createElement("span", { className: "sfam-center" }, /* @__PURE__ */ React9.createElement(Outcome, { opened: props.session.state.opened, name: neighbor.outcome, words: true }), neighbor.rank > 0 && /* @__PURE__ */ React9.createElement("b", null, "Rank ", neighbor.rank), /* @__PURE__ */ React9.createElement("span", null, "similarity ", neighbor.similarity.toFixed(4), ", distance ", neighbor.distance.toFixed(4)), neighbor.best_true && /* @__PURE__ */ React9.createElement("span", null, "nearest true match"), margin !== null && !neighbor.best_true && /* @__PURE__ */ React9.createElement("span", null, "nearest true match ", margin < 0 ? "−" : "+", Math.abs(margin).toFixed(4))), /* @__PURE__ */ React9.createElement("span", { className: "sfam-who" }, /* @__PURE__ */ React9.createElement(Name, { text: neighbor.identity, none: "no identity" }), neighbor.camera !== null && /* @__PURE__ */ React9.createElement(Name, { text: neighbor.camera })));
  }
  function stageImage(picture, side, map, label) {
    const encoded = map ? side?.maps[map.kind.name] : void 0;
    const [rows = 1, columns = 1] = encoded?.shape ?? [];
    const values = encoded ? once(decoded, encoded, decode) : null;
    return { picture, values, shape: [rows, columns], box: side?.box ?? [0, 0, 1, 1], label };
  }
  function pointsOf(found) {
    return {
      queryShape: found.query_shape,
      neighborShape: found.neighbor_shape,
      queryBox: found.query_box,
      neighborBox: found.neighbor_box,
      values: once(decoded, found.points, decode),
      similarity: found.similarity
    };
  }
  function lookOf(session, shown2, map) {
    const { choices, opened: opened2 } = session.state;
    const signed = choices.signed || (map?.kind.signed ?? false);
    const fitting = (opened2?.colors ?? []).filter((one) => one.diverging === signed);
    const color = fitting.find((one) => one.name === choices.colors) ?? fitting[0];
    const table = color ? once(tables2, color.table, colorTable) : new Uint8Array(768);
    const limit = map ? session.limit(shown2, map, signed) : 0;
    const { opacity, threshold, smooth, mode } = choices;
    return { table, diverging: signed, signed, limit, opacity, threshold, smooth, mode };
  }

  // src/main.tsx
  registerHandover();
  app.__fop__.registerComponent({
    name: "SfamPairs",
    label: "SFAM pairs",
    component: Viewer,
    type: app.__fop__.PluginComponentType.Component,
    activator: () => true
  });
})();
