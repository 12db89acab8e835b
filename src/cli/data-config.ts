import { sharedFields } from "../config/common.ts";
import { choice, type ConfigOf, group, integer, path } from "../config/fields.ts";
import { stepNames } from "../config/step.ts";
import { ppoFields } from "../ppo/config.ts";
import { sftFields } from "../sft/config.ts";

const { data, dataFields, dataFormat, evalData, dataSplit, evalSize, seed } = sharedFields;

const sourceFields = group("Data:", {
  data: { ...data, help: "data to look at: files, folders or names of data sets" },
  evalData: { ...evalData, help: "held-out data to check with it" },
  dataFields, dataFormat,
});

const modelField = {
  model: path({ hint: "<dir|file.gguf>", optional: true, hub: "model", help: "its tokenizer and chat template count and show tokens" }),
};

const lengthFields = {
  maxSeqLen: { ...sftFields.maxSeqLen, help: "longest conversation in tokens (sft, reward)" },
  maxPromptLen: { ...ppoFields.maxPromptLen, help: "longest prompt in tokens (ppo)" },
};

/** Settings of `tschat data preview`. */
export const previewFields = {
  ...sourceFields,
  ...group("What to show:", {
    ...modelField,
    step: choice(stepNames, { optional: true, help: "show samples as this step sees them; the first that can use the data when left out" }),
    limit: integer({ default: 3, min: 0, help: "samples to show" }),
    lengthSamples: integer({ default: 1000, min: 1, help: "records, drawn from all, whose lengths are measured" }),
    ...lengthFields,
  }),
  ...group("As in training:", { dataSplit, evalSize, seed }),
};

/** Configuration of a preview. */
export type PreviewConfig = ConfigOf<typeof previewFields>;

/** Settings of `tschat data validate`. */
export const validateFields = {
  ...sourceFields,
  ...group("What to show:", {
    show: integer({ default: 10, min: 0, help: "bad records to print" }),
    report: path({ hint: "<file.jsonl>", optional: true, help: "file to write every bad record to, with file, line, field and reason" }),
    ...modelField,
    ...lengthFields,
  }),
};

/** Configuration of a validation. */
export type ValidateConfig = ConfigOf<typeof validateFields>;
