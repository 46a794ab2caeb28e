// Tests of the console against a real manager (`tests/platform.ts` starts it), in Debian's Chromium. `tools/console-tests` runs
// them in a network namespace of their own.
import { defineConfig } from "@playwright/test";

export default defineConfig({
  testDir: "tests",
  outputDir: "test-results",
  globalSetup: process.env.SAKIMORI_NO_PLATFORM ? undefined : "./tests/platform.ts",
  // Two shared cores: one browser, and patience.
  workers: 1,
  timeout: 240_000,
  expect: { timeout: 45_000 },
  reporter: [["list"]],
  use: {
    browserName: "chromium",
    launchOptions: { executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"] },
    viewport: { width: 1280, height: 800 },
    locale: "en-GB",
    timezoneId: "UTC",
    trace: "retain-on-failure",
    actionTimeout: 45_000,
    permissions: ["clipboard-read", "clipboard-write"],
  },
});
