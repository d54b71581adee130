/** The repository stands alone: nothing in it points at the machine that somebody works on. */
import type { Check } from './check.ts';

/** Binary files hold no text that could leak. */
const binaryFile = /\.(png|jpg|ico|woff2|pcap|pcapng|gz|zst|bin|wasm)$/;

const patterns = [
  { pattern: /(?<![\w.~-])\/work\//, what: 'a folder of one machine' },
  { pattern: /(?<![\w.~-])\/root\//, what: "one machine's home folder" },
  { pattern: /(?<![\w.~-])\/home\/(?!gatehouse\b)\w/, what: "somebody's home folder" },
  { pattern: /\/tmp\/bash_[j]obs/, what: "a shell's scratch folder" },
  { pattern: /(?<![\w.-])shared\/[A-Z]+\.md\b/, what: 'a page outside the repository' },
  { pattern: /"resolved": *"http/, what: "one registry's address" },
  { pattern: /^\s*(\S*:)?registry *= *http/, what: "one registry's address" },
];

export const machinePathsCheck: Check = {
  name: 'machine-paths',
  async run(repository) {
    const texts = repository.paths.filter((path) => !binaryFile.test(path));
    return texts.flatMap((path) =>
      repository
        .text(path)
        .split('\n')
        .flatMap((text, index) =>
          patterns
            .filter(({ pattern }) => pattern.test(text))
            .map(({ pattern, what }) => ({
              path,
              line: index + 1,
              message: `holds ${what} (${pattern.exec(text)?.[0].trim()}): it exists nowhere else`,
            })),
        ),
    );
  },
};
