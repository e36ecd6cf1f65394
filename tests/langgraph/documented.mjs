// The React pages of the documentation in a browser. Called with the folder of the built pages and the browser's path.
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";

import { chromium } from "playwright-core";

const [home, executablePath] = process.argv.slice(2);
const reply = "It is sunny in San Francisco, and 18 degrees. A light jacket will do.";

// Pages of another origin than the server's, as those of esbuild are.
const pages = createServer(async (request, response) => {
  const path = request.url.endsWith("/") ? `${request.url}index.html` : request.url;
  try {
    const text = await readFile(home + path);
    response.setHeader("content-type", path.endsWith(".js") ? "text/javascript" : "text/html").end(text);
  } catch {
    response.writeHead(404).end();
  }
});
await new Promise((resolve) => pages.listen(0, "127.0.0.1", resolve));
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-gpu"] });
try {
  const page = await browser.newPage();
  page.setDefaultTimeout(30_000);
  const shows = (text) => page.getByText(text).first().waitFor();
  const open = (name) => page.goto(`http://127.0.0.1:${pages.address().port}/${name}/`);

  await open("chat");
  await page.locator("input").fill("What is the weather?");
  await page.getByRole("button", { name: "Ask" }).click();
  await shows("human: What is the weather?");
  await shows(`ai: ${reply}`);
  await page.reload();
  await shows(`ai: ${reply}`);

  await open("approval");
  await page.getByRole("button", { name: "Write" }).click();
  await shows("Publish this?");
  await page.reload();
  await page.getByRole("button", { name: "No" }).click();
  await shows("Today's release is small and useful.");
  await page.getByRole("button", { name: "Yes" }).click();
  await shows("published");
  console.log("all as it should be");
} finally {
  await browser.close();
  pages.close();
}
