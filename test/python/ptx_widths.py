#!/usr/bin/env python3
"""ptx_widths.py LAB: does nvcc make the accesses that the lab counts? For every kernel and line of source, the widths of its loads
and stores in PTX against those that `moba lab` counted, in bf16. An access that nvcc books on another line of the kernel is no
difference. No GPU is needed. Kernels that use cp.async, ldmatrix or tensor cores are left out: their accesses are instructions that
the wrappers name. Exit status 77: SKIPPED, no nvcc."""
import collections, concurrent.futures, glob, json, os, re, shutil, subprocess, sys, tempfile

SIZES = open(os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lab/sizes.txt')).read().split()
BYTES = dict(b8=1, u8=1, s8=1, b16=2, u16=2, s16=2, f16=2, b32=4, u32=4, s32=4, f32=4, b64=8, u64=8, s64=8, f64=8, b128=16)
# nvcc splits the pair of a score and a block in two, and loads a step and a micro-batch, side by side, at once.
KNOWN = {('decode_choose_kernel', 'shared', 8), ('residual_kernel', 'global', 4)}


def accesses_of(path):
    """{(kernel, "norm.cu:12", "read"): {(memory, bytes)}}, and the kernels that are left out."""
    files, found, left_out, kernel, line = {}, collections.defaultdict(set), set(), None, None
    text = open(path).read().splitlines()
    for t in text:
        if m := re.match(r'\s*\.file\s+(\d+)\s+"([^"]+)"', t):
            files[m[1]] = os.path.basename(m[2])
    for t in text:
        if m := re.search(r'\.entry (\w+)\(', t):
            kernel = m[1]
        elif m := re.match(r'\s*\.loc\s+(\d+)\s+(\d+)', t):
            if m[2] != '0':
                line = f'{files[m[1]]}:{m[2]}'
        elif re.search(r'cp\.async|ldmatrix|stmatrix|mma\.sync|wgmma', t):
            left_out.add(kernel)
        elif kernel and (m := re.match(r'\s*(?:@%p\d+ )?(ld|st)((?:\.\w+)+)\s', t)):
            parts = m[2].split('.')[1:]
            if 'param' not in parts and 'const' not in parts:
                width = BYTES[parts[-1]] * int(next((p[1] for p in parts if re.fullmatch(r'v\d', p)), 1))
                memory = next((p for p in parts if p in ('global', 'shared', 'local')), 'generic')
                found[kernel, line, 'read' if m[1] == 'ld' else 'write'].add((memory, width))
    return found, left_out


def main():
    nvcc = shutil.which('nvcc')
    if not nvcc:
        print('SKIPPED: no nvcc')
        return 77
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    with tempfile.TemporaryDirectory() as folder:
        def compile(source):
            to = os.path.join(folder, os.path.basename(source) + '.ptx')
            subprocess.run([nvcc, '-ptx', '-std=c++20', '-O3', '-lineinfo', '-arch=sm_90a', '-I', root, '-o', to, source], check=True,
                           stderr=subprocess.DEVNULL)
            return accesses_of(to)
        ptx, left_out = collections.defaultdict(set), set()
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            sources = [f for f in sorted(glob.glob(root + '/moba/*/*.cu'))
                       if '__global__' in open(f).read() and not re.search('mma_|tensor', os.path.basename(f))]
            for found, out in pool.map(compile, sources):
                ptx.update(found)
                left_out |= out
        counted, out = {}, os.path.join(folder, 'lab.json')
        subprocess.run([sys.argv[1], 'lab', 'all', '--kernel-version', 'all', '--table', '--json', out, *SIZES], check=True,
                       stdout=subprocess.DEVNULL)
        for k in json.load(open(out))['kernels']:
            for l in k['lines']:
                if l['places']:
                    key = k['kernel'], os.path.basename(l['places'][0]), l['access']
                    counted.setdefault(key, set()).add((l['memory'], l['bytes_per_lane']))
    names = sorted({k for k, _, _ in ptx})
    plain = subprocess.run(['c++filt'], input='\n'.join(names), capture_output=True, text=True, check=True).stdout.splitlines()
    short = {n: re.sub(r'\(.*', '', p.replace('void ', '', 1)).replace('moba::', '') for n, p in zip(names, plain)}
    skip = {short[k] for k in left_out if k in short}
    ptx = {(short[k], l, a): w for (k, l, a), w in ptx.items()}
    kernels = {k for k, _, _ in ptx} - skip
    of_kernel = collections.defaultdict(set)
    for (kernel, _, access), widths in ptx.items():
        of_kernel[kernel] |= {(access, *w) for w in widths}
    same, elsewhere, differ = 0, 0, []
    for key in sorted(counted):
        if key[0] not in kernels:
            continue
        want, got = ptx.get(key, set()), counted[key]
        strange = {w for w in got - want if (key[0].split('<')[0], *w) not in KNOWN and (key[2], 'generic', w[1]) not in of_kernel[key[0]]}
        if not strange:
            same += 1
        elif all((key[2], *w) in of_kernel[key[0]] for w in strange):
            elsewhere += 1
        else:
            differ.append(f'{key[0]} {key[1]} {key[2]}: counted {sorted(got)}, PTX has {sorted(want)}')
    print('\n'.join(differ))
    print(f'{len(kernels)} kernels: {same} lines have the same widths, {elsewhere} are booked on another line, {len(differ)} differ')
    return 1 if differ or same < 200 else 0


if __name__ == '__main__':
    sys.exit(main())
