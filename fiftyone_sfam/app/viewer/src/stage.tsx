import { app } from "./app";
import type { StageImage, StageProps } from "./drawing";
import css from "./drawing.css";
import { arrange, fitted, type Rect, type Size, sizeOf } from "./geometry";
import { dividerOf, type Scene } from "./painting";
import { pictureOf } from "./pictures";
import { Surface } from "./surface";

const { React } = app;

/** Both images with their maps; fills the element that it is in. */
export function Stage(props: StageProps) {
  const { query, neighbor, swipe, look, points, hint } = props;
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
    const made = new Surface(element, pictures.current, pointing.current, text.current, scene);
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
    <div
      ref={root}
      role="group"
      tabIndex={0}
      className="sfam-stage"
      data-testid="sfam-stage"
      aria-label="Query and neighbor. Shift and arrows move over the places, Enter pins one."
      style={{
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
      <style>{css}</style>
      <canvas ref={pictures} aria-hidden />
      {views.map(({ side, what, frame }) => (
        <Frame
          key={side + what}
          image={side === "query" ? query : neighbor}
          frame={frame}
          name={what === "map" && look.mode === "side" ? null : `sfam-${side}`}
        />
      ))}
      <canvas ref={pointing} className="sfam-above" aria-hidden />
      {swipe && width > 0 && <Divider scene={scene} swipe={swipe} onSplit={setSplit} />}
      <div
        ref={text}
        className="sfam-pill sfam-hover"
        data-testid="sfam-hover"
        aria-live="polite"
      />
      {hint && <div className="sfam-pill sfam-hint">{hint}</div>}
    </div>
  );
}

/** What an image shows for screen readers, and why it shows nothing; `name` is for tests. */
function Frame(props: { image: StageImage; frame: Rect; name: string | null }) {
  const { image, frame, name } = props;
  const { url, problem } = image.picture;
  const [, again] = React.useReducer((count: number) => count + 1, 0);
  const state = url ? pictureOf(url).state : "broken";
  React.useEffect(() => {
    if (url) pictureOf(url, again);
  }, [url]);
  const sentence =
    problem ?? (url && state === "broken" ? "The browser cannot show this image." : null);
  return (
    <>
      {name && (
        <div
          data-testid={name}
          role="img"
          aria-label={image.label}
          style={styleOf(fitted(frame, sizeOf(image)))}
        />
      )}
      {(state === "broken" || sentence) && (
        <div
          className={`sfam-problem${state === "broken" ? " sfam-missing" : ""}`}
          style={styleOf(frame)}
        >
          {sentence && <span className="sfam-pill">{sentence}</span>}
        </div>
      )}
    </>
  );
}

function styleOf({ x, y, width, height }: Rect) {
  return { left: x, top: y, width: Math.max(width, 1), height: Math.max(height, 1) };
}

/** The divider between two neighbors, to be moved by mouse or keys. */
function Divider(props: { scene: Scene; swipe: StageImage; onSplit: (split: number) => void }) {
  const { scene, swipe } = props;
  const view = scene.views.find((one) => one.side === "neighbor");
  if (!view) return null;
  const placeOf = (split: number) => dividerOf({ ...scene, split }, view) ?? 0;
  const x = placeOf(scene.split);
  const move = (to: number) => props.onSplit(Math.min(Math.max(to, 0), 1));
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
      className="sfam-swipe"
      data-testid="sfam-swipe"
      aria-label={`Divider between ${scene.neighbor.label} and ${swipe.label}`}
      aria-valuemin={0}
      aria-valuemax={100}
      aria-valuenow={Math.round(100 * scene.split)}
      style={{ left: x, top: view.frame.y, height: view.frame.height }}
      onPointerDown={(event) => {
        event.stopPropagation();
        event.currentTarget.setPointerCapture(event.pointerId);
      }}
      onPointerMove={(event) => {
        const stage = event.currentTarget.parentElement?.getBoundingClientRect();
        if (!stage || !event.currentTarget.hasPointerCapture(event.pointerId)) return;
        event.stopPropagation();
        move((event.clientX - stage.left - placeOf(0)) / (placeOf(1) - placeOf(0)));
      }}
      onDoubleClick={(event) => event.stopPropagation()}
      onKeyDown={(event) => {
        const to = keys[event.key];
        if (to === undefined) return;
        event.preventDefault();
        event.stopPropagation();
        move(to);
      }}
    >
      <span className="sfam-pill" style={{ right: 16, maxWidth: x - view.frame.x - 8 }}>
        {scene.neighbor.label}
      </span>
      <span
        className="sfam-pill"
        style={{ left: 16, maxWidth: view.frame.width - x + view.frame.x }}
      >
        {swipe.label}
      </span>
    </div>
  );
}
