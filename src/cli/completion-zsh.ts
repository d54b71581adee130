/** Completion in zsh, by its own _arguments. */
import {
  type Completion,
  globalOptions,
  globalOptionsOf,
  type NamedVerb,
  type OptionDescription,
  positionalsOf,
  verbs,
  versionOption,
} from './verbs.ts';

export function renderZshCompletion(): string {
  const early = [...globalOptions, versionOption].map((option) => `    ${specOf(option)} \\\n`);
  const names = verbs.map(({ name, summary }) => `        ${quote(`${name}:${summary}`)}\n`);
  return `#compdef gatehouse
# Completion of gatehouse for zsh.
_gatehouse() {
  local context state state_descr line
  typeset -A opt_args
  _arguments -C \\
${early.join('')}    '1:verb:->verb' \\
    '*::argument:->argument' && return
  case $state in
    verb)
      local -a verbs=(
${names.join('')}      )
      _describe verb verbs
      ;;
    argument)
      case $line[1] in
${verbs.map(caseOf).join('')}      esac
      ;;
  esac
}

# Loaded by name from a folder of $fpath, or read as a script.
if [[ $funcstack[1] == _gatehouse ]]; then
  _gatehouse "$@"
else
  compdef _gatehouse gatehouse
fi
`;
}

function caseOf(verb: NamedVerb): string {
  const { name } = verb;
  const specs = [...verb.options, ...globalOptionsOf(verb)].map(specOf);
  for (const [index, place] of positionalsOf(verb).entries()) {
    specs.push(quote(`${index + 1}:${place.name}:${action(place.completes)}`));
  }
  const lines = specs.map((spec) => ` \\\n            ${spec}`).join('');
  return `        ${name})\n          _arguments${lines}\n          ;;\n`;
}

function specOf({ name, value, description, completes }: OptionDescription): string {
  const text = description.replace(/[[\]:\\]/g, '\\$&');
  if (value === undefined) return quote(`--${name}[${text}]`);
  return quote(`--${name}=[${text}]:${value}:${action(completes)}`);
}

function action(completes: Completion): string {
  if (completes === 'nothing') return ' ';
  if (completes === 'file') return '_files';
  if (completes === 'folder') return '_files -/';
  return `(${completes.join(' ')})`;
}

function quote(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
