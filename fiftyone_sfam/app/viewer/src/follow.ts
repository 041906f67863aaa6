/** What the App shows besides: its selection, its open sample, its view. */

import { app } from "./app";
import type { Session } from "./session";

const { React } = app;

/** Follow the App; `modal` is whether the panel is beside an open sample. */
export function useFollow(session: Session, ready: boolean, modal: boolean): void {
  const read = (name: string) => app.recoil.useRecoilValue(app.__fos__[name]);
  const selected = [...(read("selectedSamples") as Map<string, unknown>).keys()];
  const open = read("nullableModalSampleId") as string | null;
  const view = JSON.stringify([read("view"), read("filters")]);
  const samples = open && (modal || !selected.length) ? [open] : selected;
  const followed = samples.join(" ");
  const before = React.useRef({ followed: "", view });
  React.useEffect(() => {
    if (!ready || followed === before.current.followed) return;
    before.current.followed = followed;
    void session.follow(samples);
  }, [followed, ready]);
  React.useEffect(() => {
    if (!ready || view === before.current.view) return;
    before.current.view = view;
    if (session.state.spec.in_view && !session.state.handed) void session.requeue();
  }, [view, ready]);
}
