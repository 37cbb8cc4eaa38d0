"""Small line charts as SVG text. Lengths are in pixels of the drawing."""
from html import escape

import numpy as np

WIDTH, HEIGHT = 860, 260
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 14, 44
COLOURS = ("#1f5fa8", "#b3541e", "#4a7a3a", "#7a5195", "#777777")


def ticks(low, high, count=5):
    """Round values that span low..high, about `count` of them."""
    span = max(high - low, 1e-12)
    raw = span / count
    power = 10.0 ** np.floor(np.log10(raw))
    step = power * next(m for m in (1, 2, 5, 10) if m * power >= raw * 0.999)
    first = np.ceil(low / step - 1e-9) * step
    return [float(first + i * step) for i in range(int((high - first) / step + 1e-9) + 1)]


class Chart:
    """A chart with linear axes over x (low, high) and y (low, high)."""

    def __init__(self, x, y, x_label, y_label, width=WIDTH, height=HEIGHT):
        self.x, self.y = x, (y if y[1] > y[0] else (y[0] - 1, y[1] + 1))
        self.width, self.height = width, height
        self.parts, self.keys = [], []
        self._frame(x_label, y_label)

    def px(self, values):
        """Horizontal positions of x values."""
        return LEFT + (np.asarray(values, float) - self.x[0]) / (self.x[1] - self.x[0]) * (self.width - LEFT - RIGHT)

    def py(self, values):
        """Vertical positions of y values."""
        share = (np.asarray(values, float) - self.y[0]) / (self.y[1] - self.y[0])
        return self.height - BOTTOM - share * (self.height - TOP - BOTTOM)

    def _text(self, x, y, text, anchor="middle", extra=""):
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {extra}>{escape(str(text))}</text>')

    def _frame(self, x_label, y_label):
        bottom, right = self.height - BOTTOM, self.width - RIGHT
        for value in ticks(*self.y):
            y = float(self.py(value))
            self.parts.append(f'<line x1="{LEFT}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" stroke="#e4e4e4"/>')
            self._text(LEFT - 6, y + 4, f"{value:.6g}", "end")
        self.parts.append(f'<line x1="{LEFT}" y1="{bottom}" x2="{right}" y2="{bottom}" stroke="#333"/>')
        self._text((LEFT + right) / 2, self.height - 8, x_label)
        middle = (TOP + bottom) / 2
        self._text(14, middle, y_label, extra=f'transform="rotate(-90 14 {middle:.1f})"')

    def x_ticks(self, values, labels):
        """Labels under the horizontal axis."""
        for x, label in zip(self.px(values), labels):
            self.parts.append(f'<line x1="{x:.1f}" y1="{self.height - BOTTOM}" x2="{x:.1f}" '
                              f'y2="{self.height - BOTTOM + 4}" stroke="#333"/>')
            self._text(float(x), self.height - BOTTOM + 16, label)

    def line(self, x, y, name="", colour=COLOURS[0], dash="", dots=False):
        """A line through the finite points; a missing value breaks it."""
        px, py, path, pen = self.px(x), self.py(y), [], False
        for a, b in zip(px, py):
            if np.isfinite(b):
                path.append(f"{'L' if pen else 'M'}{a:.1f} {b:.1f}")
            pen = bool(np.isfinite(b))
        style = f' stroke-dasharray="{dash}"' if dash else ""
        self.parts.append(f'<path d="{"".join(path)}" fill="none" stroke="{colour}" stroke-width="1.4"{style}/>')
        if dots:
            self.parts += [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="2.6" fill="{colour}"/>'
                           for a, b in zip(px, py) if np.isfinite(b)]
        if name:
            self.keys.append((name, colour, dash))

    def band(self, x, low, high, name="", colour="#bcd3ec"):
        """The area between two lines."""
        known = np.isfinite(low) & np.isfinite(high)
        px = self.px(np.asarray(x)[known])
        up, down = self.py(np.asarray(high)[known]), self.py(np.asarray(low)[known])
        points = [f"{a:.1f},{b:.1f}" for a, b in zip(px, up)]
        points += [f"{a:.1f},{b:.1f}" for a, b in zip(px[::-1], down[::-1])]
        self.parts.append(f'<polygon points="{" ".join(points)}" fill="{colour}"/>')
        if name:
            self.keys.append((name, colour, "band"))

    def text(self):
        """The SVG element, with a legend above the chart as HTML."""
        legend = "".join(f'<span class="key"><i style="background:{c}"></i>{escape(n)}</span>'
                         for n, c, _ in self.keys)
        return (f'<div class="legend">{legend}</div><svg viewBox="0 0 {self.width} {self.height}" '
                f'role="img">{"".join(self.parts)}</svg>')
