import { app } from "./app";
import type { StageImage, StageProps } from "./drawing";
import { arrange, fitted, type Rect, type Size, sizeOf } from "./geometry";
import { dividerOf, type Scene } from "./painting";
import { pictureOf } from "./pictures";
import { Surface } from "./surface";

const { React } = app;

const FILLING = { position: "absolute", inset: 0, width: "100%", height: "100%" } as const;
const PILL = {
  position: "absolute",
  pointerEvents: "none",
  padding: "2px 8px",
  borderRadius: 4,
  font: "12px sans-serif",
  color: "#ffffff",
  background: "rgba(0, 0, 0, 0.8)",
} as const;
const STYLE = `.sfam-focus:focus-visible {
  outline: 2px solid var(--fo-palette-primary-plainColor, Highlight); outline-offset: -2px }`;

/** Both images with their maps; fills the element that it is in. */
export function Stage(props: StageProps) {
  const { query, neighbor, swipe, look, points } = props;
  const root = React.useRef<HTMLDivElement>(null);
  const pictures = React.useRef<HTMLCanvasElement>(null);
  const pointing = React.useRef<HTMLCanvasElement>(null);
  const text = React.useRef<HTMLDivElement>(null);
  const surface = React.useRef<Surface | null>(null);
  const [[width, height], setSize] = React.useState<Size>([0, 0]);
  const [split, setSplit] = React.useState(0.5);
  const { views, stacked } = arrange(width, height, sizeOf(query), sizeOf(neighbor), look.mode);
  const scene: Scene = { ...props, views, stacked, split };

  React.useLayoutEffect(() => {
    const element = root.current;
    if (!element || !pictures.current || !pointing.current || !text.current) return;
    const elements = {
      root: element,
      pictures: pictures.current,
      pointing: pointing.current,
      text: text.current,
    };
    const made = new Surface(elements, scene);
    surface.current = made;
    const measure = () => setSize([element.clientWidth, element.clientHeight]);
    const observer = new ResizeObserver(measure);
    const wheel = (event: WheelEvent) => made.wheel(event);
    measure();
    observer.observe(element);
    element.addEventListener("wheel", wheel, { passive: false }); // React's cannot be prevented
    return () => {
      made.stop();
      observer.disconnect();
      element.removeEventListener("wheel", wheel);
    };
  }, []);
  React.useLayoutEffect(() => {
    if (width > 0 && height > 0) surface.current?.show(scene);
  });

  return (
    // biome-ignore lint/a11y/useSemanticElements: no element stands for two images to point at
    <div
      ref={root}
      role="group"
      // biome-ignore lint/a11y/noNoninteractiveTabindex: a cursor is moved over its images by keys
      tabIndex={0}
      className="sfam-focus"
      data-testid="sfam-stage"
      aria-label="Query and neighbor. Shift and arrows move over the places, Enter pins one."
      style={{
        position: "relative",
        width: "100%",
        height: "100%",
        overflow: "hidden",
        userSelect: "none",
        cursor: points ? "crosshair" : "default",
        touchAction: props.zoom.scale > 1 ? "none" : "auto",
      }}
      onPointerDown={(event) => surface.current?.down(event.nativeEvent)}
      onPointerMove={(event) => surface.current?.move(event.nativeEvent)}
      onPointerUp={() => surface.current?.up()}
      onPointerCancel={() => surface.current?.leave()}
      onPointerLeave={() => surface.current?.leave()}
      onDoubleClick={() => surface.current?.reset()}
      onBlur={() => surface.current?.blur()}
      onKeyDown={(event) => {
        if (!surface.current?.key(event)) return;
        event.preventDefault();
        event.stopPropagation();
      }}
    >
      <style>{STYLE}</style>
      <canvas ref={pictures} style={FILLING} aria-hidden />
      {views.map((view) => {
        const image = view.side === "query" ? query : neighbor;
        const first = views.find((one) => one.side === view.side) === view;
        return (
          <Frame
            key={view.side + view.what}
            image={image}
            rect={view.frame}
            name={first ? `sfam-${view.side}` : null}
          />
        );
      })}
      <canvas ref={pointing} style={{ ...FILLING, pointerEvents: "none" }} aria-hidden />
      {swipe && width > 0 && <Divider scene={scene} swipe={swipe} onSplit={setSplit} />}
      <div
        ref={text}
        data-testid="sfam-hover"
        aria-live="polite"
        style={{ ...PILL, left: 0, top: 0 }}
      />
      {props.hint && (
        <div style={{ ...PILL, left: 8, bottom: 8, maxWidth: "calc(100% - 32px)" }}>
          {props.hint}
        </div>
      )}
    </div>
  );
}

/** The frame of an image, what it shows for screen readers, and why it shows nothing. */
function Frame(props: { image: StageImage; rect: Rect; name: string | null }) {
  const { image, rect, name } = props;
  const { url, problem } = image.picture;
  const [, again] = React.useReducer((count: number) => count + 1, 0);
  const loaded = url ? pictureOf(url) : null;
  React.useEffect(() => {
    if (url) pictureOf(url, again);
  }, [url]);
  const broken = loaded?.state === "broken" ? "The browser cannot show this image." : null;
  const missing = !loaded || broken !== null;
  const shown = fitted(rect, sizeOf(image));
  const sentence = problem ?? broken;
  return (
    <>
      {name && (
        <div
          data-testid={name}
          role="img"
          aria-label={image.label}
          style={{ position: "absolute", ...at(shown) }}
        />
      )}
      {(missing || sentence) && (
        <div
          style={{
            position: "absolute",
            ...at(rect),
            boxSizing: "border-box",
            pointerEvents: "none",
            padding: 12,
            display: "flex",
            justifyContent: "center",
            alignItems: missing ? "center" : "flex-end",
            border: missing ? "1px dashed currentColor" : "none",
            opacity: 0.85,
            textAlign: "center",
            overflowWrap: "anywhere",
          }}
        >
          {missing || !sentence ? (
            sentence
          ) : (
            <span style={{ ...PILL, position: "static" }}>{sentence}</span>
          )}
        </div>
      )}
    </>
  );
}

function at(rect: Rect) {
  return {
    left: rect.x,
    top: rect.y,
    width: Math.max(rect.width, 1),
    height: Math.max(rect.height, 1),
  };
}

/** The divider between two neighbors, to be moved by mouse or keys. */
function Divider(props: { scene: Scene; swipe: StageImage; onSplit: (split: number) => void }) {
  const { scene, swipe, onSplit } = props;
  const view = scene.views.find((one) => one.side === "neighbor");
  if (!view) return null;
  const x = dividerOf(scene, view) ?? 0;
  const start = dividerOf({ ...scene, split: 0 }, view) ?? 0;
  const width = (dividerOf({ ...scene, split: 1 }, view) ?? 1) - start;
  const move = (to: number) => onSplit(Math.min(Math.max(to, 0), 1));
  const keys: Record<string, number> = {
    ArrowLeft: scene.split - 0.05,
    ArrowRight: scene.split + 0.05,
    Home: 0,
    End: 1,
  };
  return (
    <div
      role="slider"
      tabIndex={0}
      className="sfam-focus"
      data-testid="sfam-swipe"
      aria-label={`Divider between ${scene.neighbor.label} and ${swipe.label}`}
      aria-valuemin={0}
      aria-valuemax={100}
      aria-valuenow={Math.round(100 * scene.split)}
      style={{
        position: "absolute",
        left: x - 10,
        top: view.frame.y,
        width: 20,
        height: view.frame.height,
        cursor: "ew-resize",
        touchAction: "none",
        background:
          "linear-gradient(90deg, transparent 8px, #000 8px, #fff 9px 11px, #000 11px 12px, transparent 12px)",
      }}
      onPointerDown={(event) => {
        event.stopPropagation();
        event.currentTarget.setPointerCapture(event.pointerId);
      }}
      onPointerMove={(event) => {
        if (!event.currentTarget.hasPointerCapture(event.pointerId)) return;
        event.stopPropagation();
        const stage = event.currentTarget.parentElement?.getBoundingClientRect();
        if (stage) move((event.clientX - stage.left - start) / width);
      }}
      onDoubleClick={(event) => {
        event.stopPropagation();
        move(0.5);
      }}
      onKeyDown={(event) => {
        const to = keys[event.key];
        if (to === undefined) return;
        event.preventDefault();
        event.stopPropagation();
        move(to);
      }}
    />
  );
}
