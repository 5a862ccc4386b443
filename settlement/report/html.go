package report

import (
	"bufio"
	"html/template"
	"io"
)

// htmlSheet writes a page that stands alone and prints on A4: no script, no
// address outside, the reader's own fonts.
// A page whose first table is wide prints across.
type htmlSheet struct {
	out  *bufio.Writer
	head *head
	cols []Column
	open bool
}

// wideTable is the most columns of a table that prints upright.
const wideTable = 10

func newHTML(w io.Writer) *htmlSheet { return &htmlSheet{out: bufio.NewWriter(w)} }

const htmlHead = `<!doctype html>
<html lang="zh-CN"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body{font:14px/1.5 "Noto Sans CJK SC","Source Han Sans SC","PingFang SC","Microsoft YaHei","WenQuanYi Micro Hei",sans-serif;color:#111;margin:2rem auto;max-width:64rem;padding:0 1rem}
h1{font-size:1.5rem;margin:0 0 .5rem}h2{font-size:1.05rem;margin:1.6rem 0 .4rem}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.1rem 1rem;margin:0}dt{color:#555}dd{margin:0}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{border-bottom:1px solid #ccc;padding:.25rem .5rem;text-align:left;vertical-align:top;overflow-wrap:anywhere}
th{background:#f2f2f2;font-weight:600}.n{text-align:right;white-space:nowrap}.t td{font-weight:600;border-top:2px solid #888}
.wide{max-width:none}.wide table{font-size:12px}
@page{size:A4;margin:14mm}@page wide{size:A4 landscape;margin:10mm}
@media print{.wide{page:wide}.wide table{font-size:6.5pt}.wide th,.wide td{padding:.15rem .2rem}body{margin:0;max-width:none;padding:0;font-size:9pt}thead{display:table-header-group}tr{break-inside:avoid}h2{break-after:avoid}}
</style>
`

func (s *htmlSheet) put(parts ...string) error {
	for _, p := range parts {
		if _, err := s.out.WriteString(p); err != nil {
			return err
		}
	}
	return nil
}

func (s *htmlSheet) begin(h *head) error { s.head = h; return nil }

// top writes what stands above the first table.
func (s *htmlSheet) top(columns int) error {
	title, class := template.HTMLEscapeString(s.head.title), ""
	if columns > wideTable {
		class = ` class="wide"`
	}
	if err := s.put(htmlHead, "<title>", template.HTMLEscapeString(s.head.short()), "</title></head><body", class, ">\n<h1>", title, "</h1>\n<dl>"); err != nil {
		return err
	}
	for _, f := range s.head.facts {
		if err := s.put("<dt>", template.HTMLEscapeString(f[0]), "</dt><dd>", template.HTMLEscapeString(f[1]), "</dd>"); err != nil {
			return err
		}
	}
	return s.put("</dl>\n")
}

func (s *htmlSheet) close() error { return s.put("</tbody></table>\n") }

func (s *htmlSheet) table(name string, columns []Column) error {
	first := s.top
	if s.open {
		first = func(int) error { return s.close() }
	}
	if err := first(len(columns)); err != nil {
		return err
	}
	s.open, s.cols = true, columns
	if err := s.put("<h2>", template.HTMLEscapeString(name), "</h2>\n<table><thead><tr>"); err != nil {
		return err
	}
	for i := range columns {
		if err := s.put("<th", s.class(i), ">", template.HTMLEscapeString(columns[i].Name), "</th>"); err != nil {
			return err
		}
	}
	return s.put("</tr></thead><tbody>\n")
}

func (s *htmlSheet) class(i int) string {
	if k := s.cols[i].Kind; k == Money || k == Count {
		return ` class="n"`
	}
	return ""
}

func (s *htmlSheet) row(cells []any) error { return s.line("<tr>", cells) }

func (s *htmlSheet) total(cells []any) error { return s.line(`<tr class="t">`, cells) }

func (s *htmlSheet) line(tag string, cells []any) error {
	if err := s.put(tag); err != nil {
		return err
	}
	for i, c := range cells {
		if err := s.put("<td", s.class(i), ">", template.HTMLEscapeString(shown(c)), "</td>"); err != nil {
			return err
		}
	}
	return s.put("</tr>\n")
}

func (s *htmlSheet) end() error {
	last := s.close
	if !s.open { // a report without a table
		last = func() error { return s.top(0) }
	}
	if err := last(); err != nil {
		return err
	}
	if err := s.put("</body></html>\n"); err != nil {
		return err
	}
	return s.out.Flush()
}
