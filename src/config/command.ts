import { Argument, Command, CommanderError, Help, Option } from "commander";
import { ConfigError } from "../errors.ts";
import type { Field, Fields } from "./fields.ts";
import { didYouMean, flagOf, kebab, nearest } from "./names.ts";
import type { Flags } from "./resolve.ts";

/** One command of the command line. */
export interface CommandSpec {
  /** One word, or two for a command of a group: `data preview`. */
  readonly name: string;
  /** One line for the list of commands. */
  readonly summary: string;
  /** Text under the usage line, wrapped to the terminal; the summary when left out. */
  readonly description?: string;
  /** Whole command lines. */
  readonly examples: readonly string[];
  readonly fields: Fields;
  /** Fields of the steps, taken as `--<step>.<setting>` and left out of the help text. */
  readonly steps?: Readonly<Record<string, Fields>>;
  /** The field that may also be given as an argument without its flag. */
  readonly positional?: string;
  /** Runs the command and gives the exit code. */
  readonly run: (flags: Flags) => Promise<number>;
}

/** The program around its commands. */
export interface ProgramSpec {
  readonly name: string;
  readonly version: string;
  readonly description: string;
  readonly commands: readonly CommandSpec[];
  /** One line for each group of commands with a name of two words: first word -> summary. */
  readonly groups?: Readonly<Record<string, string>>;
  /** Printed at the end of every help text. */
  readonly epilogue: string;
  readonly example: string;
}

/**
 * Parses a command line (without `node` and the script), runs its command and gives the exit code. Help and version go to
 * standard output with exit code 0.
 *
 * @throws {ConfigError} for an unknown command or flag, naming the nearest, and for a flag without its value
 */
export async function runProgram(spec: ProgramSpec, argv: readonly string[]): Promise<number> {
  let exitCode = 0;
  const program = new Command(spec.name)
    .description(spec.description)
    .version(spec.version, "-V, --version", "print the version")
    .usage("<command> [options]")
    .helpOption("-h, --help", "print this help")
    .helpCommand("help [command]", "print the help of a command")
    .addHelpText("after", `\nExample:\n  ${spec.example}\n\n${spec.epilogue}`);
  // The commands of a group stand in the list with both words.
  const plain = new Help();
  program.configureHelp({
    visibleCommands: (shown) => plain.visibleCommands(shown).flatMap((each) => (each.commands.length > 0 ? each.commands : [each])),
    subcommandTerm: (each) => {
      const group = each.parent === null || each.parent === program ? "" : `${each.parent.name()} `;
      return group + plain.subcommandTerm(each);
    },
  });
  quiet(program);
  for (const command of spec.commands) {
    const [first = "", second] = command.name.split(" ");
    const parent = second === undefined ? program : groupOf(program, first, spec.groups?.[first] ?? "");
    parent.addCommand(toCommander(command, spec.epilogue, (code) => { exitCode = code; }));
  }
  const command = spec.commands.find(({ name }) => name.split(" ").every((word, i) => word === argv[i]));
  const numWords = command?.name.split(" ").length ?? 0;
  if (argv.length === 0) {
    program.outputHelp();
    return exitCode;
  }
  try {
    const words = command === undefined ? [...argv] : [...argv.slice(0, numWords), ...canonicalFlags(command, argv.slice(numWords))];
    if (command === undefined && argv.length === 1 && Object.hasOwn(spec.groups ?? {}, argv[0] ?? "")) words.push("--help");
    await program.parseAsync(words, { from: "user" });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    if (error.exitCode !== 0) throw new ConfigError(explain(error, command, spec), { cause: error });
  }
  return exitCode;
}

/** Commander's errors are thrown, and their text is ours. */
function quiet(command: Command): void {
  command.exitOverride().configureOutput({ outputError: () => {} }).showSuggestionAfterError(false);
}

/** The command that holds the commands of a group, made when it is first needed. */
function groupOf(program: Command, name: string, summary: string): Command {
  const known = program.commands.find((command) => command.name() === name);
  if (known !== undefined) return known;
  const group = new Command(name).summary(summary).description(summary).usage("<command> [options]")
    .helpOption("-h, --help", "print this help").helpCommand(false);
  quiet(group);
  program.addCommand(group);
  return group;
}

function toCommander(spec: CommandSpec, epilogue: string, finish: (exitCode: number) => void): Command {
  const command = new Command(spec.name.split(" ").at(-1))
    .summary(spec.summary)
    .description((spec.description ?? spec.summary).replace(/\n/g, " "))
    .helpOption("-h, --help", "print this help")
    .addHelpText("after", `\nExamples:\n${spec.examples.map((line) => `  ${line}`).join("\n")}\n\n${epilogue}`);
  quiet(command);
  const positional = spec.positional === undefined ? undefined : spec.fields[spec.positional];
  if (positional !== undefined) command.addArgument(new Argument(`[${positional.hint.slice(1, -1)}]`, positional.help));
  for (const { flag, field } of allFlags(spec)) {
    for (const option of options(flag, field)) {
      command.addOption(spec.steps !== undefined && flag.includes(".") ? option.hideHelp() : option);
    }
  }
  return command.action(async (...args: unknown[]) => {
    const flags: Record<string, unknown> = command.opts();
    if (spec.positional !== undefined && args[0] !== undefined) {
      const flagged = flags[spec.positional];
      if (flagged !== undefined) throw new ConfigError(`${flagOf(spec.positional)}: given twice: ${flagged} and ${args[0]}`);
      flags[spec.positional] = args[0];
    }
    finish(await spec.run(flags));
  });
}

/** The options of commander for one field; a switch has two, of which the help shows the one that changes the default. */
function options(flag: string, field: Field): Option[] {
  const help = `${field.help}${note(field)}`;
  const heading = (option: Option): Option => option.helpGroup(field.group);
  if (field.kind !== "boolean") return [heading(new Option(`${flag} ${field.hint}`, help))];
  const [on, off] = [heading(new Option(flag, help)), heading(new Option(negated(flag), `do not ${field.help}`))];
  return field.default === true ? [on.hideHelp(), off] : [on, off.hideHelp()];
}

function note(field: Field): string {
  if (field.isRequired) return " (required)";
  if (field.default === undefined || field.kind === "boolean") return "";
  const values: readonly unknown[] = Array.isArray(field.default) ? field.default : [field.default];
  return ` (default: ${values.map(shown).join(" ")})`;
}

/** 1e-5 rather than 0.00001. */
function shown(value: unknown): string {
  return typeof value === "number" && value !== 0 && Math.abs(value) < 1e-3 ? value.toExponential() : String(value);
}

function negated(flag: string): string {
  return flag.replace(/^--/, "--no-");
}

/** Every flag of a command with its field: `--seed`, and `--ppo.kl-coef` for the steps. */
function allFlags({ fields, steps = {} }: CommandSpec): { flag: string; field: Field; names: string[] }[] {
  const of = (prefix: string, some: Fields): { flag: string; field: Field; names: string[] }[] =>
    Object.entries(some).filter(([, field]) => prefix === "" || !field.flagOnly).map(([key, field]) => {
      const names = [key, ...field.aliases].map((name) => `--${prefix}${kebab(name)}`);
      return { flag: flagOf(prefix + key), field, names };
    });
  return [...of("", fields), ...Object.entries(steps).flatMap(([step, some]) => of(`${step}.`, some))];
}

/** Every accepted spelling in kebab-case -> the flag that commander knows. */
function spellings(spec: CommandSpec): Map<string, string> {
  const known = new Map<string, string>();
  const add = (name: string, flag: string): void => {
    if (known.has(name)) throw new Error(`internal: two settings of ${spec.name} are called ${name}`);
    known.set(name, flag);
  };
  for (const { flag, field, names } of allFlags(spec)) {
    for (const name of names) {
      add(name, flag);
      if (field.kind !== "boolean") continue;
      add(negated(name), negated(flag));
      if (name.includes(".")) add(name.replace(".", ".no-"), negated(flag));
    }
  }
  return known;
}

/**
 * Turns snake_case and aliases into the names that commander knows; what is unknown stays, for commander to refuse.
 *
 * @throws {ConfigError} when two spellings set the same thing: the second would silently win
 */
function canonicalFlags(spec: CommandSpec, argv: readonly string[]): string[] {
  const known = spellings(spec);
  const given = new Map<string, string>();
  const end = argv.indexOf("--");
  return argv.map((word, index) => {
    if (!word.startsWith("--") || (end !== -1 && index >= end)) return word;
    const [name = "", ...value] = word.split("=");
    const flag = known.get(kebab(name));
    if (flag === undefined) return word;
    const before = given.get(flag) ?? name;
    if (before !== name) {
      throw new ConfigError(`${before} and ${name} are the same setting (${flag}), which has one value; give one of them`);
    }
    given.set(flag, name);
    return [flag, ...value].join("=");
  });
}

/** Our words for an error of commander. */
function explain(error: CommanderError, command: CommandSpec | undefined, spec: ProgramSpec): string {
  const quoted = /'([^']+)'/.exec(error.message)?.[1] ?? "";
  const see = `see ${spec.name} ${command === undefined ? "" : `${command.name} `}--help`;
  switch (error.code) {
    case "commander.unknownCommand":
      return `unknown command ${quoted}${didYouMean(quoted, spec.commands.flatMap(({ name }) => name.split(" "))) || `; ${see}`}`;
    case "commander.unknownOption": {
      const name = kebab(quoted.split("=", 1)[0] ?? quoted);
      if (command === undefined) return `unknown flag ${quoted}; flags follow the command; ${see}`;
      const known = spellings(command);
      if (known.has(name)) return `${quoted}: ${name} is a switch and takes no value; --no-... turns it off`;
      const ofSteps = [...known.keys()].filter((flag) => flag.endsWith(`.${name.slice(2)}`));
      if (ofSteps.length > 0) return `unknown flag ${quoted}; settings of one step carry its name: ${ofSteps.join(", ")}`;
      const near = nearest(name, known.keys());
      return `unknown flag ${quoted}${near === undefined ? `; ${see}` : `; did you mean ${known.get(near)}?`}`;
    }
    case "commander.optionMissingArgument": return `${quoted}: expected a value, got none`;
    default: return `${error.message.replace(/^error: |\.$/g, "")}; ${see}`;
  }
}
