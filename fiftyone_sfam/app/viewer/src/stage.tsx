import { React } from "./app";
import css from "./drawing.css";
import { FIT, type Rect, type Size, type StageProps, type View, viewsOf } from "./geometry";
import { pictureOf } from "./pictures";
import { Surface } from "./surface";

/** Both images with their maps; fills the element that it is in. */
export function Stage(props: StageProps) {
  const { look, hint } = props;
  const root = React.useRef<HTMLDivElement>(null);
  const surface = React.useRef<Surface | null>(null);
  const [size, setSize] = React.useState<Size>([0, 0]);
  const [split, setSplit] = React.useState(0.5);
  const [, again] = React.useReducer((count: number) => count + 1, 0);
  const scene = { ...props, views: viewsOf(props, size, split) };
  const swiped = scene.views.find(({ side }) => side === "swiped");

  React.useLayoutEffect(() => {
    const element = root.current!;
    // It measures once at the beginning, too.
    const observer = new ResizeObserver(() => setSize([element.clientWidth, element.clientHeight]));
    surface.current = new Surface(element, scene);
    observer.observe(element);
    element.onwheel = (event) => surface.current?.wheel(event); // React's cannot be prevented
    return () => observer.disconnect();
  }, []);
  React.useLayoutEffect(() => {
    if (Math.min(...size) > 0) surface.current?.show(scene);
  });

  return (
    <div
      ref={root}
      role="group"
      tabIndex={0}
      className="sfam-stage"
      data-testid="sfam-stage"
      aria-label="Query and neighbor. Shift and arrows move a cursor, Space switches, Enter pins."
      onPointerDown={(event) => surface.current?.down(event.nativeEvent)}
      onPointerMove={(event) => surface.current?.move(event.nativeEvent)}
      onPointerUp={(event) => surface.current?.up(event.nativeEvent)}
      onPointerCancel={(event) => surface.current?.leave(event.nativeEvent)}
      onPointerLeave={(event) => surface.current?.leave(event.nativeEvent)}
      onDoubleClick={() => props.onZoom(FIT)}
      onKeyDown={(event) => {
        if (event.target !== event.currentTarget || !surface.current?.key(event)) return;
        event.preventDefault();
        event.stopPropagation();
      }}
    >
      <style>{css}</style>
      <canvas aria-hidden />
      {scene.views.map((view) => (
        <Frame
          key={view.side + view.what}
          view={view}
          testId={look.mode === "side" && view.what === "map" ? undefined : `sfam-${view.side}`}
          again={again}
        />
      ))}
      <canvas aria-hidden />
      {swiped && (
        <input
          type="range"
          className="sfam-swipe"
          data-testid="sfam-swipe"
          aria-label={`Divider before ${swiped.image.label}`}
          step={0.5}
          value={100 * split}
          style={styleOf(swiped.room)}
          onChange={({ target }) => setSplit(Number(target.value) / 100)}
          onPointerDown={(event) => event.stopPropagation()}
          onDoubleClick={(event) => event.stopPropagation()}
        />
      )}
      <div className="sfam-texts">
        <div className="sfam-pill sfam-hover" data-testid="sfam-hover" aria-live="polite" />
        {hint && <div className="sfam-pill">{hint}</div>}
      </div>
    </div>
  );
}

/** What a view shows for screen readers and tests, and why it shows nothing. */
function Frame(props: { view: View; testId: string | undefined; again: () => void }) {
  const { image, at } = props.view;
  const { url, problem } = image.picture;
  const missing = pictureOf(url, props.again).state === "broken";
  const sentence = problem ?? (url && missing ? "The browser cannot show this image." : null);
  return (
    <div
      role="img"
      className={missing ? "sfam-view sfam-missing" : "sfam-view"}
      data-testid={props.testId}
      aria-label={sentence ? `${image.label}: ${sentence}` : image.label}
      style={styleOf(at)}
    >
      {sentence && <span className="sfam-pill">{sentence}</span>}
    </div>
  );
}

const styleOf = ({ x, y, width, height }: Rect) => ({ left: x, top: y, width, height });
