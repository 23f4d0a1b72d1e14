/* The style and the script of the page of `moba lab`. The script draws the request of the line under the
   pointer, as 32 banks or as sectors. It reads the variable `requests`, which the page defines before it:
   [shared, write, bytes of a lane, mask of lanes, first byte of each of these lanes, wavefronts or sectors] */
#pragma once

namespace moba {

constexpr const char* lab_style = R"(
body{max-width:1700px}.versions{display:grid;gap:8px 24px;grid-template-columns:repeat(auto-fit,minmax(min(100%,620px),1fr));align-items:start}
.versions>div{min-width:0}.source table{width:100%}.source td,.source th{padding:0 8px 0 0;border:0;font-size:.8rem}
.source .code{text-align:left;white-space:pre;font-family:ui-monospace,monospace;width:100%}.source th.code{text-align:left}
.source thead th{min-width:0;position:static}.source td:first-child{color:var(--soft);text-align:right}
.source tr.file td{color:var(--soft);text-align:left;padding-top:.6em}.source tr[data-p]{cursor:pointer;background:var(--card)}
.source tr.shown,.source tr[data-p]:hover{background:var(--warn)}.bad{color:var(--c1);font-weight:600}
.share{background:linear-gradient(90deg,var(--h5) var(--to),transparent 0)}
#picture{position:sticky;bottom:0;background:var(--card);border-top:2px solid var(--rule);padding:6px 10px;max-height:40vh;overflow:auto}
#picture svg{width:100%;max-width:760px;height:auto}#picture p{margin:.2em 0;font-size:.85rem}#picture .where{font-weight:600}
rect.free{fill:none;stroke:var(--rule)}rect.unused{fill:var(--h4)}rect.used{fill:var(--c0)}rect.late{fill:var(--c1)}
#picture svg text{font-size:11px}#picture svg text.lane{text-anchor:middle;fill:var(--paper)}#picture svg text.soft{fill:var(--soft);font-size:10px}
@media(max-width:700px){.source .less{display:none}}
@media print{#picture{display:none}}
)";

constexpr const char* lab_script = R"js(
const picture = document.getElementById('picture');
const cell = 22, head = 16;

// The cells [column, row, lane, repeated, others] of a request: 4-byte words in their banks, or in their lines.
function cells(shared, write, size, lanes, bytes) {
    const out = [], turns = {}, seen = new Map();
    let rows = 0, first = 0, phase = -1;
    const pairs = bit => lanes.every((l, i) => !lanes.includes(l ^ bit) || bytes[lanes.indexOf(l ^ bit)] === bytes[i]);
    const twice = size > 4 && !write && (pairs(1) || pairs(2)) ? 2 : 1;  // as in lab_memory.cpp
    const together = !shared || size <= 4 ? 32 : twice * (size == 8 ? 16 : 8);
    const lines = [...new Set(bytes.flatMap(b => [b >> 7, (b + size - 1) >> 7]))].sort((a, b) => a - b);
    lanes.forEach((lane, i) => {
        if (shared && Math.floor(lane / together) !== phase) {  // the next lanes that are served together
            phase = Math.floor(lane / together);
            first = rows;
            Object.keys(turns).forEach(k => delete turns[k]);
            seen.clear();
        }
        for (let w = bytes[i] >> 2; w <= (bytes[i] + size - 1) >> 2; w++) {
            if (seen.has(w)) {
                seen.get(w)[4] = '+';  // other lanes, too
                continue;
            }
            const column = w % 32;
            const turn = turns[column] = (turns[column] ?? -1) + 1;
            const row = shared ? first + turn : lines.indexOf(w >> 5);
            seen.set(w, [column, row, lane, shared && turn > 0, '']);
            out.push(seen.get(w));
            rows = Math.max(rows, row + 1);
        }
    });
    return [out, rows];
}

function draw(request) {
    const [shared, write, size, mask, bytes, cost] = request;
    const lanes = [...Array(32).keys()].filter(l => mask >>> l & 1);
    const [all, rows] = cells(shared, write, size, lanes, bytes), most = Math.min(rows, 32);
    const taken = new Set(all.map(([c, r]) => r + ' ' + c));
    let svg = `<svg viewBox="0 0 ${32 * cell + 2} ${most * cell + head + 2}" role="img" aria-label="one request">`;
    for (let c = 0; c < 32; c++) {
        if (shared || c % 8 === 0) {
            svg += `<text class=soft x="${c * cell + 3}" y="12">${shared ? c : 'sector ' + c / 8}</text>`;
        }
    }
    for (let r = 0; r < most; r++) {
        for (let c = 0; c < 32; c++) {
            const sector = !shared && [...Array(8).keys()].some(i => taken.has(r + ' ' + (c - c % 8 + i)));
            svg += `<rect class="${sector ? 'unused' : 'free'}" x="${c * cell + 1}" y="${r * cell + head}" width="${cell - 1}" height="${cell - 1}"/>`;
        }
    }
    for (const [c, r, lane, late, others] of all) {
        if (r >= most) { continue; }
        svg += `<rect class="${late ? 'late' : 'used'}" x="${c * cell + 1}" y="${r * cell + head}" width="${cell - 1}" height="${cell - 1}"/>` +
            `<text class=lane x="${c * cell + cell / 2}" y="${r * cell + head + 15}">${lane}${others}</text>`;
    }
    const kind = `${write ? 'Write' : 'Read'} of ${size} bytes by each of ${lanes.length} lanes`;
    const what = shared ? `${kind}: ${cost} wavefronts. Columns are the 32 banks of shared memory, numbers are lanes (+: others want the same word); a row is served at once` +
                              (all.some(x => x[3]) ? ', and orange lanes wait for their bank.' : '.')
                        : `${kind}: ${cost} sectors. A row is a line of 128 bytes, four sectors of 32; numbers are lanes (+: others, too). Grey bytes are moved and not used.`;
    return `<p>${what}${rows > most ? ` ${rows - most} more rows are not shown.` : ''}</p>${svg}</svg>`;
}

function show(row) {
    const which = row.dataset.p.split(' ').map(Number);
    document.querySelectorAll('tr.shown').forEach(r => r.classList.remove('shown'));
    row.classList.add('shown');
    picture.innerHTML = `<p class=where>${row.dataset.where}: the most expensive request</p>` + which.map(i => draw(requests[i])).join('');
    picture.hidden = false;
}
document.querySelectorAll('tr[data-p]').forEach(row => {
    row.tabIndex = 0;
    row.addEventListener('click', () => show(row));
    row.addEventListener('focus', () => show(row));
    row.addEventListener('pointerenter', e => { if (e.pointerType === 'mouse') { show(row); } });
});
// At first the most expensive line of a kernel, not of the helpers that all kernels call.
const own = [...document.querySelectorAll('tr[data-p]')].filter(row => !row.dataset.where.startsWith('moba/core/'));
const costly = own.sort((a, b) => b.dataset.share - a.dataset.share)[0];
if (costly) { show(costly); }
document.addEventListener('keydown', e => { if (e.key === 'Escape') { picture.hidden = true; } });
)js";

}  // namespace moba
