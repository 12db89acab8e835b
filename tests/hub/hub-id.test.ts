import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { hubEnvironment } from "../../src/hub/environment.ts";
import { formatHubId, hubIdOf, isCommit, parseHubId, requireHubId } from "../../src/hub/hub-id.ts";
import { failure } from "../failure.ts";
import { temporaryFolder } from "../temporary-folder.ts";

describe("parseHubId", () => {
  test.each([
    ["org/name", "org/name", "main", undefined],
    ["gpt2", "gpt2", "main", undefined],
    ["HuggingFaceTB/SmolLM2-1.7B_x", "HuggingFaceTB/SmolLM2-1.7B_x", "main", undefined],
    ["org/name@v1.0", "org/name", "v1.0", undefined],
    ["org/name@refs/pr/1", "org/name", "refs/pr/1", undefined],
    ["org/name:test", "org/name", "main", "test"],
    ["org/name@abc:en/train", "org/name", "abc", "en/train"],
    ["org/name-GGUF:model.Q4_K_M.gguf", "org/name-GGUF", "main", "model.Q4_K_M.gguf"],
  ])("reads %s", (text, repo, revision, selector) => {
    const id = parseHubId(text);
    expect(id).toEqual({ repo, revision, selector });
    expect(id && formatHubId(id)).toBe(text);
  });

  test.each([
    "./x", "../x/y", "/x", "~/x", "a/b/c", "data.jsonl", "dir/data.jsonl.gz", "model.gguf", "x/model.gguf", "C:\\x", "a b/c", "", "org/",
    "org/name@", "org/name:", "org/..", "org/a--b", "org/name@../../x", "org/name@a/../b", "org/name:../x", "-org/name", "org/*.parquet",
  ])("takes %s for a path", (text) => {
    expect(parseHubId(text)).toBeUndefined();
  });
});

test("what exists here is a path, though it looks like an id", () => {
  const folder = temporaryFolder();
  const before = process.cwd();
  process.chdir(folder);
  try {
    expect(hubIdOf("runs/model")?.repo).toBe("runs/model");
    mkdirSync(join("runs", "model"), { recursive: true });
    expect(hubIdOf("runs/model")).toBeUndefined();
  } finally {
    process.chdir(before);
  }
});

test("requireHubId says what it expected", () => {
  expect(failure(() => requireHubId("./x"))).toEqual({
    name: "ConfigError", code: "E_CONFIG", message: "./x: expected a name on the hub such as org/name or org/name@revision",
  });
});

test("isCommit wants the whole hash", () => {
  expect(isCommit("0123456789abcdef0123456789abcdef01234567")).toBe(true);
  expect(isCommit("0123456")).toBe(false);
});

describe("hubEnvironment", () => {
  test("has the defaults of the Python tools", () => {
    const home = process.env["HOME"] ?? "";
    expect(hubEnvironment({})).toEqual({
      endpoint: "https://huggingface.co", cacheFolder: `${home}/.cache/huggingface/hub`, token: undefined, offline: undefined,
      timeout: 30_000,
    });
    expect(hubEnvironment({ XDG_CACHE_HOME: "/c" }).cacheFolder).toBe("/c/huggingface/hub");
    expect(hubEnvironment({ XDG_CACHE_HOME: "/c", HF_HOME: "~/h" }).cacheFolder).toBe(`${home}/h/hub`);
    expect(hubEnvironment({ HF_HOME: "/h", HUGGINGFACE_HUB_CACHE: "/old" }).cacheFolder).toBe("/old");
    expect(hubEnvironment({ HF_HOME: "/h", HUGGINGFACE_HUB_CACHE: "/old", HF_HUB_CACHE: "/new" }).cacheFolder).toBe("/new");
    expect(hubEnvironment({ HF_ENDPOINT: "https://mirror.example/hf/" }).endpoint).toBe("https://mirror.example/hf");
  });

  test("finds the token in the variables and in the file of hf auth login", () => {
    const folder = temporaryFolder();
    writeFileSync(join(folder, "token"), "hf_file\n");
    writeFileSync(join(folder, "other"), "hf_other");
    expect(hubEnvironment({ HF_HOME: folder }).token).toBe("hf_file");
    expect(hubEnvironment({ HF_HOME: folder, HF_TOKEN_PATH: join(folder, "other") }).token).toBe("hf_other");
    expect(hubEnvironment({ HF_HOME: folder, HF_TOKEN: " hf_given " }).token).toBe("hf_given");
    expect(hubEnvironment({ HF_HOME: join(folder, "token") }).token).toBeUndefined();
  });

  test("knows when it is to stay offline", () => {
    expect(hubEnvironment({ HF_HUB_OFFLINE: "1" }).offline).toBe("HF_HUB_OFFLINE=1");
    expect(hubEnvironment({ TRANSFORMERS_OFFLINE: "Yes" }).offline).toBe("TRANSFORMERS_OFFLINE=Yes");
    expect(hubEnvironment({ HF_HUB_OFFLINE: "0" }).offline).toBeUndefined();
  });
});
