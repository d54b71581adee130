/**
 * The process that lab-killed.test.ts kills: it brings a lab up and down for ever and says on
 * stdout what it is about to do. Its arguments: the lab's name, and a name for interfaces.
 */
import { Lab } from '../../lab/lab.ts';

const [name = '', interfaceName = ''] = process.argv.slice(2);

for (;;) {
  say('bring-up');
  const lab = await Lab.start(
    {
      hosts: {
        switch: { bridges: { br0: [`${interfaceName}s`] } },
        left: {
          addresses: { [`${interfaceName}l`]: ['10.0.0.1/24'] },
          processes: [{ argv: ['sleep', '1000'] }],
        },
        right: { addresses: { [`${interfaceName}t`]: ['10.0.1.2/24'] } },
      },
      links: {
        plain: {
          ends: [`left:${interfaceName}l`, `switch:${interfaceName}s`],
          checksumOffload: 'off',
        },
        impaired: {
          ends: [`left:${interfaceName}u`, `right:${interfaceName}t`],
          impairment: { firstToSecond: { delayMs: 5 } },
        },
      },
    },
    { name },
  );
  say('running');
  // A daemon leaves its process group and its parent, and so the reach of both.
  await lab.host('right').run(['setsid', '--fork', 'sleep', '1000'], { timeoutMs: 100 });
  const capture = await lab.host('left').capture(`${interfaceName}l`);
  await capture.stop();
  say('tear-down');
  await lab.stop();
}

function say(phase: string): void {
  process.stdout.write(`${phase}\n`);
}
