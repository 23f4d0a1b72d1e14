/* The script on the page of `moba inspect`: shows the numbers of the cell under the pointer. It reads the
   variables `about` and `views`, which the page defines before it. */
#pragma once

namespace moba {

constexpr const char* inspect_script = R"js(
const readout = document.getElementById('readout');
const percent = w => w === null ? 'NaN' : (w / 100).toFixed(2) + '%';
const svgs = view => ['m', 'f'].map(side => document.getElementById('v' + view + side)).filter(svg => svg);

// As text, never as HTML: token names may contain anything.
function say(lines) {
    const div = document.createElement('div');
    for (const [style, text] of lines) {
        const line = document.createElement('div');
        line.className = style;
        line.textContent = text;
        div.append(line);
    }
    readout.replaceChildren(div);
}

// The tokens of a block; of a long one only its beginning and its end.
function block_text(first, end) {
    const names = about.tokens.slice(first, end);
    const text = names.join(' ');
    return text.length <= 170 ? text : text.slice(0, 80) + ' \u2026 ' + text.slice(-80);
}

function describe(view, row, column) {
    const v = views[view], t = about.queries[row], [chosen, weights, full, scores] = v.rows[row];
    const first = column * v.size, own = full.length - 1;
    const end = Math.min(first + v.size, column === own ? t + 1 : Infinity);
    let line = `layer ${v.layer}, head ${v.head}: query ${t} "${about.tokens[t]}", block ${column}, tokens ${first} to ${end - 1}`;
    if (first <= about.source && about.source < end) { line += `, the answer is at ${about.source}`; }
    let what = `weight ${percent(weights[column])}`;
    if (v.moba) {
        const slot = chosen.indexOf(column);
        what = slot < 0 ? 'not chosen' : column === own ? 'own block, always chosen' : 'chosen';
        if (column < own) {
            const score = Number(scores[column]);
            const rank = 1 + scores.filter((s, n) => Number(s) > score || (Number(s) === score && n < column)).length;
            what += `; score ${scores[column]}, rank ${rank} of ${own}`;
        }
        if (slot >= 0) { what += `; MoBA's weight ${percent(weights[slot])}`; }
    }
    what += `; full attention's weight ${percent(full[column])}`;
    say([['', line], ['', what], ['tokens', block_text(first, end)]]);
}

function frame(view, row, column) {
    document.querySelectorAll('.at').forEach(old => old.remove());
    for (const svg of svgs(view)) {
        const cells = svg.querySelector('.dense'), scale = cells.getScreenCTM();
        const x = 2 / scale.a, y = 2 / scale.d;  // two pixels around the cell
        const rect = document.createElementNS('http://www.w3.org/2000/svg', 'rect');
        const place = {class: 'at', x: column - x, y: row - y, width: 1 + 2 * x, height: 1 + 2 * y};
        for (const name in place) { rect.setAttribute(name, place[name]); }
        cells.append(rect);
    }
}

let at = null;  // view, row, column
function show(view, row, column) {
    const rows = views[view].rows;
    if (row < 0 || row >= rows.length || column < 0 || column >= rows[row][2].length) { return; }
    at = [view, row, column];
    describe(...at);
    frame(...at);
}

for (const svg of document.querySelectorAll('svg[id^=v]')) {
    const view = parseInt(svg.id.slice(1));
    const point = event => {
        const scale = svg.querySelector('.dense').getScreenCTM();
        show(view, Math.floor((event.clientY - scale.f) / scale.d), Math.floor((event.clientX - scale.e) / scale.a));
    };
    svg.addEventListener('pointermove', point);
    svg.addEventListener('pointerdown', point);
    svg.tabIndex = 0;
    svg.addEventListener('keydown', event => {
        const step = {ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1]}[event.key];
        if (!step) { return; }
        event.preventDefault();
        const [row, column] = at && at[0] === view ? at.slice(1) : [views[view].rows.length - 1, -step[1]];
        show(view, row + step[0], column + step[1]);
    });
}
const asked = about.queries.indexOf(about.question);
show(0, Math.max(asked, 0), asked < 0 ? 0 : Math.floor(about.source / views[0].size));
)js";

}  // namespace moba
