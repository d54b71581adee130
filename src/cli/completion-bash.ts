/** Completion in bash. Words of the table hold nothing that bash would expand. */
import {
  type Completion,
  globalOptions,
  globalOptionsOf,
  type NamedVerb,
  type OptionDescription,
  verbs,
  versionOption,
} from './verbs.ts';

export function renderBashCompletion(): string {
  const valued = globalOptions.filter(hasValue).map(flag).join(' | ');
  const early = [...globalOptions, versionOption].map(flag).join(' ');
  const ofValues = [
    ...globalOptions.flatMap((option) => valueCase('*', option)),
    ...verbs.flatMap(valueCases),
  ];
  const names = verbs.map(({ name }) => name).join(' ');
  return `# Completion of gatehouse for bash.
_gatehouse() {
  local current=\${COMP_WORDS[COMP_CWORD]} previous=\${COMP_WORDS[COMP_CWORD - 1]}
  local verb= index
  COMPREPLY=()
  for ((index = 1; index < COMP_CWORD; index++)); do
    case \${COMP_WORDS[index]} in
      ${valued}) ((index++)) ;;
      -*) ;;
      *)
        verb=\${COMP_WORDS[index]}
        break
        ;;
    esac
  done
  case $verb:$previous in
${ofValues.join('')}    *) _gatehouse_word "$verb" "$current" ;;
  esac
}

_gatehouse_word() {
  case $1:$2 in
    :-*) _gatehouse_words '${early}' "$2" ;;
    :*) _gatehouse_words '${names}' "$2" ;;
${verbs.flatMap(wordCases).join('')}  esac
}

_gatehouse_words() {
  mapfile -t COMPREPLY < <(compgen -W "$1" -- "$2")
}

_gatehouse_files() {
  compopt -o filenames
  mapfile -t COMPREPLY < <(compgen "$1" -- "$2")
}

complete -F _gatehouse gatehouse
`;
}

function hasValue(option: OptionDescription): boolean {
  return option.value !== undefined;
}

function flag({ name }: OptionDescription): string {
  return `--${name}`;
}

function valueCases({ name, options }: NamedVerb): string[] {
  return options.flatMap((option) => valueCase(name, option));
}

function valueCase(verb: string, option: OptionDescription): string[] {
  if (!hasValue(option)) return [];
  return [`    ${verb}:${flag(option)}) ${action(option.completes, '$current')} ;;\n`];
}

function wordCases(verb: NamedVerb): string[] {
  const { name, options, positional } = verb;
  const flags = [...options, ...globalOptionsOf(verb)].map(flag).join(' ');
  const inPlace = action(positional?.completes ?? 'nothing', '$2');
  return [
    `    ${name}:-*) _gatehouse_words '${flags}' "$2" ;;\n`,
    `    ${name}:*) ${inPlace} ;;\n`,
  ];
}

function action(completes: Completion, word: string): string {
  if (completes === 'nothing') return ':';
  if (completes === 'file') return `_gatehouse_files -f "${word}"`;
  if (completes === 'folder') return `_gatehouse_files -d "${word}"`;
  return `_gatehouse_words '${completes.join(' ')}' "${word}"`;
}
