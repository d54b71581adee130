/** Completion in fish. */
import {
  type Completion,
  globalOptions,
  type NamedVerb,
  type OptionDescription,
  takesJson,
  verbs,
  versionOption,
} from './verbs.ts';

export function renderFishCompletion(): string {
  const valued = globalOptions.flatMap((option) => ('value' in option ? [`--${option.name}`] : []));
  const withoutJson = verbs.filter((verb) => !takesJson(verb)).map(({ name }) => name);
  const always = globalOptions.map((option) => {
    const limit =
      option.name === 'json' ? `-n 'not __gatehouse_verb_is ${withoutJson.join(' ')}' ` : '';
    return optionLine(limit, option);
  });
  return `# Completion of gatehouse for fish.
function __gatehouse_verb
    set -l skips 0
    for word in (commandline -opc)[2..-1]
        if test $skips -eq 1
            set skips 0
        else if contains -- $word ${valued.join(' ')}
            set skips 1
        else if not string match -q -- '-*' $word
            echo $word
            return
        end
    end
    echo none
end

function __gatehouse_verb_is
    contains -- (__gatehouse_verb) $argv
end

complete -c gatehouse -f
${always.join('')}${optionLine(when('none'), versionOption)}${verbs.map(verbLine).join('')}${verbs
  .flatMap(linesOn)
  .join('')}`;
}

function verbLine({ name, summary }: NamedVerb): string {
  return `complete -c gatehouse ${when('none')}-a ${name} -d ${quote(summary)}\n`;
}

function linesOn({ name, options, positional }: NamedVerb): string[] {
  const place = positionalAction(positional?.completes ?? 'nothing');
  return [
    ...options.map((option) => optionLine(when(name), option)),
    ...(place === '' ? [] : [`complete -c gatehouse ${when(name)}${place}\n`]),
  ];
}

/** @param condition with a space behind it, or empty */
function optionLine(condition: string, option: OptionDescription): string {
  const { name, value, description, completes } = option;
  const takes = value === undefined ? '' : ` ${valueAction(completes)}`;
  return `complete -c gatehouse ${condition}-l ${name}${takes} -d ${quote(description)}\n`;
}

function when(verb: string): string {
  return `-n '__gatehouse_verb_is ${verb}' `;
}

function valueAction(completes: Completion): string {
  if (completes === 'nothing') return '-x';
  if (completes === 'file') return '-r -F';
  return `-x ${positionalAction(completes)}`;
}

function positionalAction(completes: Completion): string {
  if (completes === 'nothing') return '';
  if (completes === 'file') return '-F';
  if (completes === 'folder') return "-a '(__fish_complete_directories)'";
  return `-a '${completes.join(' ')}'`;
}

function quote(text: string): string {
  return `'${text.replace(/['\\]/g, '\\$&')}'`;
}
