package routing

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Columns of the CSV form, in this order; the first line names them. Lines
// that start with # are comments.
var columns = []string{"bin", "issuer", "brand", "kind", "pan_lengths", "luhn", "name"}

// LoadTable reads a BIN table from a .csv or .json file, whole or not at all:
// the first wrong row refuses the file and is named by its line.
func LoadTable(path string) (*Table, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("routing: reading the BIN table: %w", err)
	}
	var t *Table
	switch ext := strings.ToLower(filepath.Ext(path)); ext {
	case ".csv":
		t, err = ParseCSV(b)
	case ".json":
		t, err = ParseJSON(b)
	default:
		err = fmt.Errorf("a BIN table ends in .csv or .json, not in %q", ext)
	}
	if err != nil {
		return nil, fmt.Errorf("routing: %s: %w", path, err)
	}
	return t, nil
}

// ParseCSV reads the CSV form: columns bin (621000, or a range
// 621000-621099), issuer, brand, kind (debit,
// credit, prepaid, semi-credit), pan_lengths ("16" or "16/19"), luhn (yes or
// no), name.
func ParseCSV(b []byte) (*Table, error) {
	r := csv.NewReader(bytes.NewReader(b))
	r.Comment = '#'
	r.TrimLeadingSpace = true
	r.FieldsPerRecord = len(columns)
	head, err := r.Read()
	if err == io.EOF {
		return nil, errors.New("the table is empty; its first line is " + strings.Join(columns, ","))
	}
	if err != nil {
		return nil, err
	}
	if got := strings.Join(head, ","); got != strings.Join(columns, ",") {
		return nil, fmt.Errorf("line 1: columns are %q, want %q", got, strings.Join(columns, ","))
	}
	t := &Table{}
	var lines []int
	for {
		rec, err := r.Read()
		if err == io.EOF {
			return t.complete(lines)
		}
		if err != nil {
			return nil, err // encoding/csv names the line
		}
		line, _ := r.FieldPos(0)
		route := Route{Issuer: rec[1], Brand: rec[2], Name: rec[6]}
		if route.BIN, route.Last, err = splitRange(rec[0]); err != nil {
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
		if err := route.Kind.UnmarshalText([]byte(rec[3])); err != nil {
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
		if route.Lengths, err = parseLengths(rec[4]); err != nil {
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
		switch rec[5] {
		case "yes":
			route.Luhn = true
		case "no":
		default:
			return nil, fmt.Errorf("line %d: luhn is %q, want yes or no", line, rec[5])
		}
		t.routes, lines = append(t.routes, route), append(lines, line)
	}
}

// ParseJSON reads the JSON form: a list of objects with the CSV's columns as
// names, pan_lengths as a list of numbers and luhn as a boolean.
func ParseJSON(b []byte) (*Table, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	at := func() int { return 1 + bytes.Count(b[:d.InputOffset()], []byte{'\n'}) }
	if tok, err := d.Token(); err != nil || tok != json.Delim('[') {
		return nil, errors.New("line 1: a BIN table is a list: [ { \"bin\": ... }, ... ]")
	}
	t := &Table{}
	var lines []int
	for d.More() {
		var row struct {
			BIN        string `json:"bin"`
			Issuer     string `json:"issuer"`
			Brand      string `json:"brand"`
			Kind       Kind   `json:"kind"`
			PANLengths []int  `json:"pan_lengths"`
			Luhn       bool   `json:"luhn"`
			Name       string `json:"name"`
		}
		if err := d.Decode(&row); err != nil {
			return nil, fmt.Errorf("line %d: %w", at(), err)
		}
		lengths, err := LengthsOf(row.PANLengths...)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", at(), err)
		}
		first, last, err := splitRange(row.BIN)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", at(), err)
		}
		t.routes = append(t.routes, Route{BIN: first, Last: last, Issuer: row.Issuer, Brand: row.Brand, Name: row.Name,
			Kind: row.Kind, Lengths: lengths, Luhn: row.Luhn})
		lines = append(lines, at())
	}
	if _, err := d.Token(); err != nil {
		return nil, fmt.Errorf("line %d: the list is not closed: %w", at(), err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, fmt.Errorf("line %d: something stands behind the list", at())
	}
	return t.complete(lines)
}

// complete lays out the rows that were read from lines.
func (t *Table) complete(lines []int) (*Table, error) {
	if len(t.routes) == 0 {
		return nil, errors.New("the table has no BIN; every card would be refused")
	}
	if err := t.index(func(row int32) string { return fmt.Sprintf("line %d", lines[row]) }); err != nil {
		return nil, err
	}
	return t, nil
}

// splitRange reads 621000 or 621000-621099; what is not digits is found later.
func splitRange(s string) (first, last string, err error) {
	first, last, ranged := strings.Cut(s, "-")
	if ranged && last == "" {
		return "", "", fmt.Errorf("BIN %q is a range without an end", s)
	}
	return first, last, nil
}

func parseLengths(s string) (PANLengths, error) {
	var lengths []int
	for part := range strings.SplitSeq(s, "/") {
		n, err := strconv.Atoi(part)
		if err != nil {
			return 0, fmt.Errorf("pan_lengths %q is not like 16 or 16/19", s)
		}
		lengths = append(lengths, n)
	}
	return LengthsOf(lengths...)
}
