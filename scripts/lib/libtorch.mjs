import { existsSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { cacheFolder, ROOT } from "./paths.mjs";
import { SetupError } from "./setup-error.mjs";
import { findTools } from "./tools.mjs";
import { ensureWheelFolder } from "./wheels.mjs";

/** The version that is downloaded; an existing one may have another patch number. */
export const LIBTORCH_VERSION = "2.15.0";
const MINOR = LIBTORCH_VERSION.replace(/\.\d+$/, "");
const VERSION_HEADER = "include/torch/headeronly/version.h";

/**
 * @typedef {object} Platform
 * @property {string} [requirements] the pinned wheels; a platform without them can only use an existing libtorch
 * @property {readonly string[]} tags wheel tags that pip is asked for
 * @property {readonly string[]} libraries what is taken from `torch/lib`
 * @property {readonly string[]} cudaLibraries what the CPU library links against besides; libtorch's rpath finds them in `nvidia/cu13/lib`
 * @property {number} unpackedBytes
 */

/** @type {Record<string, Platform>} */
const PLATFORMS = {
  "linux-x64": {
    requirements: join(ROOT, "scripts/libtorch/requirements-linux-x64.txt"),
    tags: ["manylinux_2_28_x86_64", "manylinux_2_25_x86_64", "manylinux2014_x86_64"],
    libraries: ["libc10.so", "libtorch_cpu.so", "libgomp.so.1"],
    cudaLibraries: ["libcudart.so.13", "libcupti.so.13"],
    unpackedBytes: 499e6,
  },
  "linux-arm64": {
    tags: ["manylinux_2_28_aarch64", "manylinux_2_25_aarch64", "manylinux2014_aarch64"],
    libraries: ["libc10.so", "libtorch_cpu.so", "libgomp.so.1"],
    cudaLibraries: ["libcudart.so.13", "libcupti.so.13"],
    unpackedBytes: 499e6,
  },
  "darwin-arm64": {
    tags: ["macosx_14_0_arm64", "macosx_11_0_arm64"],
    libraries: ["libc10.dylib", "libtorch_cpu.dylib", "libomp.dylib"],
    cudaLibraries: [],
    unpackedBytes: 300e6,
  },
};

/**
 * @typedef {object} Libtorch
 * @property {string} folder holds `lib/` and `include/`
 * @property {string} version
 */

/**
 * @returns {Platform & { name: string }}
 * @throws {SetupError} when tschat does not run on this machine
 */
export function requirePlatform() {
  const name = `${process.platform}-${process.arch}`;
  const platform = PLATFORMS[name];
  if (platform === undefined) throw new SetupError(`cannot get libtorch: this is ${name}, tschat runs on Linux x86-64 (linux-x64)`);
  if (existsSync("/etc/alpine-release")) throw new SetupError("cannot get libtorch: it needs glibc 2.28 or newer, Alpine has musl");
  return { name, ...platform };
}

/**
 * Whether `ensureLibtorch` will download, for which it needs pip.
 *
 * @param {NodeJS.ProcessEnv} [env]
 */
export function needsDownload(env = process.env) {
  return !env.TSCHAT_LIBTORCH && !existsSync(cachedFolder(env));
}

/** @param {NodeJS.ProcessEnv} env */
function cachedFolder(env) {
  return join(cacheFolder(env), `libtorch-${LIBTORCH_VERSION}-${process.platform}-${process.arch}`);
}

/**
 * Gives libtorch: the one that `TSCHAT_LIBTORCH` names, else the one in the cache folder, downloaded when it is not there yet.
 *
 * @param {NodeJS.ProcessEnv} [env]
 * @returns {Promise<Libtorch>}
 * @throws {SetupError} on an unsupported platform, or when `TSCHAT_LIBTORCH` is no libtorch of this version
 */
export async function ensureLibtorch(env = process.env) {
  const platform = requirePlatform();
  if (env.TSCHAT_LIBTORCH) return checkLibtorch(resolve(env.TSCHAT_LIBTORCH), platform);

  const { name, requirements, tags, libraries, cudaLibraries, unpackedBytes } = platform;
  if (requirements === undefined) {
    throw new SetupError(
      `cannot get libtorch: its download is not supported on ${name} yet; ` +
        `install torch ${LIBTORCH_VERSION} with pip and set TSCHAT_LIBTORCH to its "torch" folder`,
    );
  }
  const target = cachedFolder(env);
  const wanted = new Set([...libraries.map((file) => `torch/lib/${file}`), ...cudaLibraries.map((file) => `nvidia/cu13/lib/${file}`)]);
  const select = (/** @type {string} */ entry) => (wanted.has(entry) || entry.startsWith("torch/include/") ? entry : undefined);
  if (needsDownload(env)) {
    const label = `libtorch ${LIBTORCH_VERSION}`;
    await ensureWheelFolder({ label, target, requirements, platforms: tags, unpackedBytes, select }, findTools(["pip"], env).pip, env);
  }
  return checkLibtorch(join(target, "torch"), platform);
}

/**
 * @param {string} folder
 * @param {Platform} platform
 * @returns {Libtorch}
 */
function checkLibtorch(folder, { libraries }) {
  const advice = `set TSCHAT_LIBTORCH to the "torch" folder of a torch ${MINOR} installation, or unset it to download one`;
  for (const file of [VERSION_HEADER, ...libraries.map((library) => `lib/${library}`)]) {
    if (!existsSync(join(folder, file))) throw new SetupError(`cannot use libtorch in ${folder}: it has no ${file}; ${advice}`);
  }
  const version = /#define TORCH_VERSION\s[^"]*"(\d+\.\d+\.\d+)/.exec(readFileSync(join(folder, VERSION_HEADER), "utf8"))?.[1];
  if (!version?.startsWith(`${MINOR}.`)) {
    throw new SetupError(`cannot use libtorch in ${folder}: its version is ${version ?? "unknown"}, ${MINOR} is needed; ${advice}`);
  }
  return { folder, version };
}
