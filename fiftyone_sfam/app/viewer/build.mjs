/** Bundles src/main.tsx into viewer.js, or with --tests every test into .built/. */
import { readdirSync, rmSync } from "node:fs";
import { build } from "esbuild";

const folder = import.meta.dirname ?? new URL(".", import.meta.url).pathname;
const common = {
  absWorkingDir: folder, // so that it is the same from wherever it is built
  bundle: true,
  target: "es2021",
  charset: "utf8",
  logLevel: "warning",
  loader: { ".css": "text" },
};

if (process.argv.includes("--tests")) {
  const tests = readdirSync(`${folder}/tests`).filter((name) => name.includes(".test."));
  rmSync(`${folder}/.built`, { recursive: true, force: true });
  await build({
    ...common,
    entryPoints: tests.map((name) => `${folder}/tests/${name}`),
    outdir: `${folder}/.built`,
    outExtension: { ".js": ".test.mjs" },
    format: "esm",
    platform: "node",
  });
} else {
  const at = process.argv.indexOf("--outfile");
  await build({
    ...common,
    entryPoints: [`${folder}/src/main.tsx`],
    outfile: at < 0 ? `${folder}/viewer.js` : process.argv[at + 1],
    format: "iife",
    banner: { js: "// Built from src/ by `make viewer`; do not edit." },
  });
}
