// How the console is built: into `dist/`, which `crates/manager/build.rs` puts into the manager's binary.
// Every text file lies beside its brotli form, so that the manager compresses nothing while it serves. The folder itself
// stays (it has a committed .gitignore): cargo watches it, and would build the manager anew each time if it were absent.
import { brotliCompressSync, constants } from "node:zlib";
import { readFileSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import react from "@vitejs/plugin-react";
import { defineConfig, type Plugin } from "vite";

const TEXT = /\.(html|js|css|svg|json|webmanifest)$/;

function compressed(): Plugin {
  const walk = (folder: string): string[] =>
    readdirSync(folder).flatMap((name) => {
      const path = join(folder, name);
      return statSync(path).isDirectory() ? walk(path) : [path];
    });
  return {
    name: "brotli-beside",
    apply: "build",
    buildStart() {
      for (const name of readdirSync("dist").filter((name) => name !== ".gitignore")) rmSync(join("dist", name), { recursive: true });
    },
    closeBundle() {
      // index.html gets a nonce with every answer, so it cannot be compressed before.
      for (const path of walk("dist").filter((path) => TEXT.test(path) && !path.endsWith("index.html"))) {
        const quality = { [constants.BROTLI_PARAM_QUALITY]: 11 };
        writeFileSync(`${path}.br`, brotliCompressSync(readFileSync(path), { params: quality }));
      }
    },
  };
}

export default defineConfig({
  plugins: [react(), compressed()],
  // The manager puts a fresh one into every answer.
  html: { cspNonce: "__NONCE__" },
  build: {
    emptyOutDir: false,
    target: "es2022",
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 700,
  },
  server: { proxy: Object.fromEntries(["/api", "/healthz"].map((path) => [path, process.env.SAKIMORI_SERVER ?? "http://127.0.0.1:7600"])) },
});
