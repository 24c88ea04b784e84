"""Line plots as SVG: both axes logarithmic, one line with dots a series. As little as docs/performance.md needs."""
import math
from html import escape

WIDTH, HEIGHT = 640, 360
LEFT, RIGHT, TOP, BOTTOM = 70, 150, 36, 52
COLOURS = ("#1f6feb", "#d1242f", "#57606a", "#1a7f37", "#8250df")


def short(value):
    """A number in at most four digits, with a letter for the thousands."""
    for factor, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.3g}{letter}"
    return f"{value:.3g}"


class Plot:
    """`ticks`: (value, text) along the x axis. `series`: name → [(x, y), …]; values are positive."""

    def __init__(self, title, x_name, y_name, ticks, series):
        self.title, self.x_name, self.y_name, self.ticks, self.series = title, x_name, y_name, ticks, series
        xs = [x for x, _ in ticks] + [x for line in series.values() for x, _ in line]
        ys = [y for line in series.values() for _, y in line]
        self.x_range = (math.log(min(xs)), math.log(max(xs)))
        self.y_range = (math.floor(math.log10(min(ys))), max(math.ceil(math.log10(max(ys))), math.floor(math.log10(min(ys))) + 1))

    def x(self, value):
        low, high = self.x_range
        return LEFT + (math.log(value) - low) / ((high - low) or 1) * (WIDTH - LEFT - RIGHT)

    def y(self, value):
        low, high = self.y_range
        return HEIGHT - BOTTOM - (math.log10(value) - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    def text(self, x, y, words, anchor="middle", more=""):
        return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {more}>{escape(words)}</text>'

    def axes(self):
        bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
        for value, words in self.ticks:
            x = self.x(value)
            yield f'<line x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{bottom}" stroke="#d0d7de"/>'
            yield self.text(x, bottom + 16, words)
        for exponent in range(self.y_range[0], self.y_range[1] + 1):
            y = self.y(10 ** exponent)
            yield f'<line x1="{LEFT}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" stroke="#d0d7de"/>'
            yield self.text(LEFT - 6, y + 4, short(10 ** exponent), "end")
        yield self.text((LEFT + right) / 2, HEIGHT - 12, self.x_name)
        middle = (TOP + bottom) / 2
        yield self.text(16, middle, self.y_name, more=f'transform="rotate(-90 16 {middle:.1f})"')
        yield self.text((LEFT + right) / 2, 20, self.title, more='font-weight="bold"')

    def lines(self):
        for number, (name, line) in enumerate(self.series.items()):
            colour = COLOURS[number % len(COLOURS)]
            points = [(self.x(x), self.y(y)) for x, y in line]
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
            yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>'
            for x, y in points:
                yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>'
            y = TOP + 14 + 18 * number
            yield f'<line x1="{WIDTH - RIGHT + 12}" y1="{y - 4}" x2="{WIDTH - RIGHT + 32}" y2="{y - 4}" stroke="{colour}" stroke-width="2"/>'
            yield self.text(WIDTH - RIGHT + 38, y, name, "start")

    def svg(self):
        head = (f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" '
                'font-family="sans-serif" font-size="12">')
        background = f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>'
        return "\n".join([head, background, *self.axes(), *self.lines(), "</svg>", ""])
