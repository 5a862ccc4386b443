package console

import (
	"fmt"
	"html/template"
	"strings"
)

// The chart of the last minute, in its own units: approvals stand on the
// baseline, declines hang below it, on the same scale.
const (
	chartWidth  = 600
	chartHeight = 132
	chartBase   = 100 // the y of the baseline
	chartStep   = chartWidth / Window
	chartBar    = 7
)

// chart draws the rates as SVG. It carries no style of its own: the policy of
// the page allows none.
func chart(rates [Window]Rate, alt string) template.HTML {
	// A quiet street draws small bars: the scale starts at five a second.
	scale := 5.0 / (chartBase - 2)
	for _, r := range rates {
		scale = max(scale, float64(r.Approved)/(chartBase-2), float64(r.Declined)/(chartHeight-chartBase-2))
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg class="chart" viewBox="0 0 %d %d" preserveAspectRatio="none" role="img" aria-label="%s">`,
		chartWidth, chartHeight, template.HTMLEscapeString(alt))
	fmt.Fprintf(&b, `<line class="base" x1="0" x2="%d" y1="%d" y2="%d"></line>`, chartWidth, chartBase, chartBase)
	for i, r := range rates {
		x := i*chartStep + (chartStep-chartBar)/2
		if h := height(r.Approved, scale); h > 0 {
			fmt.Fprintf(&b, `<rect class="up" x="%d" y="%d" width="%d" height="%d"></rect>`, x, chartBase-1-h, chartBar, h)
		}
		if h := height(r.Declined, scale); h > 0 {
			fmt.Fprintf(&b, `<rect class="down" x="%d" y="%d" width="%d" height="%d"></rect>`, x, chartBase+1, chartBar, h)
		}
	}
	b.WriteString(`</svg>`)
	return template.HTML(b.String()) // numbers of ours and one escaped text
}

// height is at least 2: one decline in a busy second must not vanish.
func height(n int, scale float64) int {
	if n == 0 {
		return 0
	}
	return max(2, int(float64(n)/scale+0.5))
}

// bar draws where in the whole a step lies: a piece of a line.
func bar(from, width, whole float64) template.HTML {
	if whole <= 0 {
		whole = 1
	}
	w := max(width/whole*1000, 4)
	x := min(max(from/whole*1000, 0), 1000-w)
	return template.HTML(fmt.Sprintf(`<svg class="span" viewBox="0 0 1000 10" preserveAspectRatio="none" aria-hidden="true">`+
		`<rect class="rail" x="0" y="4" width="1000" height="2"></rect><rect class="part" x="%.1f" y="0" width="%.1f" height="10"></rect></svg>`, x, w)) // numbers of ours
}
