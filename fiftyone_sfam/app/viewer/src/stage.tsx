import { app } from "./app";
import type { StageProps } from "./drawing";

const { React } = app;

/** Both images with their maps; fills the element that it is in. */
export function Stage(props: StageProps) {
  return <div data-testid="sfam-stage">{props.hint}</div>;
}
