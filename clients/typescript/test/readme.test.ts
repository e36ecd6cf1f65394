import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdir, mkdtemp, readFile, readdir, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";

import { Server, root } from "./server.js";

const run = promisify(execFile);
const here = join(root, "clients/typescript");
const settings = { module: "NodeNext", target: "ES2022", strict: true, skipLibCheck: true, types: ["node"] };

/** The package as `npm pack` makes it, with its dependencies, in a folder of its own. */
async function installed(home: string): Promise<void> {
  await run("npm", ["pack", "--ignore-scripts", "--pack-destination", home], { cwd: here });
  const archive = (await readdir(home)).find((name) => name.endsWith(".tgz"));
  assert.ok(archive);
  await run("tar", ["-xzf", archive], { cwd: home });
  await mkdir(join(home, "node_modules/@runloom"), { recursive: true });
  for (const name of await readdir(join(here, "node_modules"))) {
    if (!name.startsWith(".")) await symlink(join(here, "node_modules", name), join(home, "node_modules", name));
  }
  await symlink(join(home, "package"), join(home, "node_modules/@runloom/client"));
  await writeFile(join(home, "package.json"), '{ "type": "module" }');
  await writeFile(join(home, "tsconfig.json"), JSON.stringify({ compilerOptions: { ...settings, preserveSymlinks: true }, include: ["*.ts"] }));
}

test("the programs of the README run with the packed package, and print what it says", async () => {
  const readme = await readFile(join(here, "README.md"), "utf8");
  const blocks = [...readme.matchAll(/^```ts\n(.*?)^```\n\n^```text\n(.*?)^```$/gms)];
  assert.equal(blocks.length, readme.match(/^```ts$/gm)?.length, "a program without its output");
  const home = await mkdtemp(join(tmpdir(), "runloom-readme-"));
  const server = await Server.start({ "approval.yaml": undefined });
  try {
    await installed(home);
    for (const [i, [, program]] of blocks.entries()) {
      await writeFile(join(home, `program${i}.ts`), program!.replaceAll("localhost:50051", server.address));
    }
    await run(join(here, "node_modules/.bin/tsc"), ["-p", home]);
    for (const [i, [, , output]] of blocks.entries()) {
      const { stdout } = await run("node", ["--preserve-symlinks", `program${i}.js`], { cwd: home, timeout: 60_000 });
      assert.equal(stdout, output);
    }
  } finally {
    await server.stop();
    await rm(home, { recursive: true, force: true });
  }
});
