//go:build fault

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"acquirer/audit"
	"acquirer/fault"
	"acquirer/hsm"
	simbank "acquirer/simulate/bank"
	"acquirer/simulate/card"
	"acquirer/store"
	"acquirer/store/storetest"
)

// deed is one thing that is done now and then: by an operator, through a
// command, or by the house when a file has come or a time.
type deed struct {
	name string
	// walks are the steps that it walks over, with blanks between them.
	walks string
	// first is what others have done before.
	first func(w *deedHouse)
	// args are the command, without its settings; or do is what the house does
	// by itself, in a process of its own.
	args func(w *deedHouse) []string
	do   func(ctx context.Context, v *house) error
	// beside says that the command asks a running serve, and that it is this one
	// that dies; looks are then the rows that are compared, since it does much
	// else.
	beside bool
	looks  *regexp.Regexp
	// again is what the command may say when it is given a second time and
	// finds that it was done.
	again string
	// leaves is what may differ from peace after a death at a point, when the
	// deed is done again at the same hour: what only more time brings about.
	leaves map[string]*regexp.Regexp
}

// TestCrashDeeds lets every deed die at each of its points, on a copy of the
// house, and does it again as an operator would, or the next turn of the
// scheduler. Then the house must be, row by row and file by file, what it is
// when nobody dies, but for times and numbers.
func TestCrashDeeds(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) { crashDeeds(t, "") })
	t.Run("postgres", func(t *testing.T) { crashDeeds(t, storetest.PostgresURL(t)) })
}

func crashDeeds(t *testing.T, database string) {
	w := newDeedHouse(t, database)
	defer w.close()
	began := time.Now()
	killed := map[string]int{}
	for _, d := range deeds {
		if d.first != nil {
			d.first(w)
		}
		var args []string
		if d.args != nil {
			args = d.args(w)
		}
		before := w.copied(t)
		if err := w.redo(d, args); err != nil {
			t.Fatalf("%s, in peace: %v", d.name, err)
		}
		want := w.picture()
		t.Run(strings.ReplaceAll(d.name, " ", "-"), func(t *testing.T) {
			for _, step := range strings.Fields(d.walks) {
				for _, point := range []string{step + ".before", step + ".after"} {
					t.Run(point, func(t *testing.T) {
						before.copied(t).kill(d, args, point, want)
						killed[point]++
					})
				}
			}
		})
	}
	points, total := 0, 0
	for step, part := range fault.Points {
		if part != "deed" {
			continue
		}
		for _, point := range []string{step + ".before", step + ".after"} {
			if points++; killed[point] == 0 {
				t.Errorf("nobody was killed at %s", point)
			}
			total += killed[point]
		}
	}
	t.Logf("%d kills at %d points of %d deeds in %s", total, points, len(deeds), time.Since(began).Round(time.Second))
}

// kill lets a deed die at a point, does it again, and compares.
func (w *deedHouse) kill(d deed, args []string, point string, want []string) {
	p := w.run(d, args, fault.Setting+"="+point+"@1")
	if text := p.stderr.String(); !strings.Contains(text, fault.Fired+point+" ") {
		w.t.Fatalf("nobody died at %s: %s%s", point, p.stdout.String(), p.stderr.tail(20))
	}
	if err := w.redo(d, args); err != nil && (d.again == "" || !strings.Contains(err.Error(), d.again)) {
		w.t.Fatalf("killed at %s and done again: %v", point, err)
	}
	more, less := differ(d.looked(w.picture()), d.looked(want))
	if len(more)+len(less) == 0 {
		return
	}
	if may := d.leaves[point]; may != nil && may.MatchString(strings.Join(more, "\n")+"\n-\n"+strings.Join(less, "\n")) {
		return
	}
	w.t.Errorf("killed at %s and done again, the house has\n\t%s\nand has not\n\t%s", point, strings.Join(more, "\n\t"), strings.Join(less, "\n\t"))
}

// looked are the rows of a picture that are compared.
func (d *deed) looked(rows []string) (some []string) {
	for _, row := range rows {
		if d.looks == nil || d.looks.MatchString(row) {
			some = append(some, row)
		}
	}
	return some
}

// redo does a deed in this process, in peace.
func (w *deedHouse) redo(d deed, args []string) error {
	w.t.Helper()
	if d.beside {
		p := w.serve()
		if _, listening := p.stderr.await(w.t.Context(), `"msg":"listening"`); !listening {
			return errors.New(p.stderr.tail(20))
		}
		status, _, stderr := runs(w.t, w.inHere(args)...)
		if p.stop(w.t) != 0 || status != 0 {
			return fmt.Errorf("%s%s", stderr, p.stderr.tail(20))
		}
		return nil
	}
	if d.do != nil {
		return withHouse(w.t.Context(), configOf(w.t, w.settings()), w.hsm, d.do)
	}
	if status, _, stderr := runs(w.t, w.inHere(args)...); status != 0 {
		return errors.New(stderr)
	}
	return nil
}

// deedHouse is a house that nobody has open, in a folder of its own: master key,
// the folders of the bank and of clearing files, and the database on SQLite.
type deedHouse struct {
	t        *testing.T
	dir      string
	postgres string // URL of its database; "" on SQLite
	hsm      hsm.HSM
	bank     *simbank.Bank // by file
	live     *simbank.Bank // over HTTP
	silent   fickle
}

func (w *deedHouse) database() string {
	return cmp.Or(w.postgres, "sqlite:"+filepath.Join(w.dir, "a.db"))
}

// settings are what its commands are given.
func (w *deedHouse) settings() []string {
	return []string{"--database", w.database(), "--hsm-file", filepath.Join(w.dir, "hsm.key"), "--hsm-passphrase-file", filepath.Join(w.dir, "pass"),
		"--settlement-bank", "file:" + filepath.Join(w.dir, "bank"), "--settlement-account-holder", "演示收单机构", "--settlement-account", "9999000000000001", "--settlement-account-bank", "演示银行",
		"--settlement-own-funds", "1000.00", "--clearing-inbox", filepath.Join(w.dir, "inbox"), "--clearing-sources", "north",
		"--settlement-payers", filepath.Join(w.dir, "payers.json"), "--settlement-credit", "unlimited"}
}

// run runs a deed to its end, whatever that is.
func (w *deedHouse) run(d deed, args []string, env ...string) *process {
	w.t.Helper()
	if d.beside {
		p := w.serve(env...)
		if _, listening := p.stderr.await(w.t.Context(), `"msg":"listening"`); listening {
			status, _, stderr := runs(w.t, w.inHere(args)...)
			w.t.Logf("while it died the command said %d: %s", status, stderr)
		}
		if p.wait(w.t) == 0 {
			w.t.Fatal("serve ended by itself")
		}
		return p
	}
	if d.do != nil {
		args, env = []string{d.name}, append(env, asProgram+"=deed")
	} else {
		args = w.inHere(args)
		return ended(spawn(w.t, env, args...))
	}
	return ended(spawn(w.t, env, append(args, w.settings()...)...))
}

// serve starts the house, which pays nobody and waits for no file.
func (w *deedHouse) serve(env ...string) *process {
	args := []string{"serve", "--seed", "demo", "--terminals-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--console-listen", "",
		"--settlement-bank", "", "--clearing-inbox", "", "--clearing-sources", "", "--routing-rules", "DIR/routes.json"}
	for _, is := range simcard.Issuers {
		args = append(args, "--issuer", is.Name+"="+nobody) // nothing is sold
	}
	return spawn(w.t, env, w.inHere(args)...)
}

// nobody is an address at which nobody answers.
const nobody = "127.0.0.1:1"

func ended(p *process) *process {
	<-p.ended
	return p
}

// inHere is a command for this house's folder, with the settings it has not.
func (w *deedHouse) inHere(args []string) (all []string) {
	for _, a := range args {
		all = append(all, strings.ReplaceAll(a, "DIR", w.dir))
	}
	if args[1] == "init" { // it knows no others
		return all
	}
	own := w.settings()
	for i := 0; i < len(own); i += 2 {
		if !slices.Contains(args, own[i]) {
			all = append(all, own[i], own[i+1])
		}
	}
	return all
}

// copied is a copy in another folder and database, for a test.
func (w *deedHouse) copied(t *testing.T) *deedHouse {
	t.Helper()
	c := &deedHouse{t: t, dir: t.TempDir(), hsm: w.hsm}
	if w.postgres != "" {
		c.postgres = storetest.PostgresCopy(t, w.postgres)
	}
	err := os.CopyFS(c.dir, os.DirFS(w.dir))
	if err == nil { // how old a file is says whether somebody still writes it
		err = fs.WalkDir(os.DirFS(w.dir), ".", func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			return os.Chtimes(filepath.Join(c.dir, path), info.ModTime(), info.ModTime())
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func init() { programs["deed"] = doDeed }

// doDeed is the program that does a deed of the house.
func doDeed() {
	i := slices.IndexFunc(deeds, func(d deed) bool { return d.name == os.Args[1] })
	cmd := newHSMKeysCmd()
	err := cmd.ParseFlags(os.Args[2:])
	var cfg Config
	if err == nil {
		cfg, err = loadConfig(cmd.Flags())
	}
	if err == nil {
		err = doWith(context.Background(), cfg, deeds[i].do)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func doWith(ctx context.Context, cfg Config, do func(context.Context, *house) error) error {
	log := slog.New(slog.DiscardHandler)
	h, err := openKeeper(ctx, cfg, log)
	if err != nil {
		return err
	}
	defer closeHSM(h, log)
	return withHouse(ctx, cfg, h, do)
}

// withHouse opens a house for a deed.
func withHouse(ctx context.Context, cfg Config, h hsm.HSM, do func(context.Context, *house) error) error {
	v, err := openWithout(ctx, cfg, h)
	if err != nil {
		return err
	}
	return errors.Join(do(ctx, v), v.db.Close())
}

// with opens the house in this process.
func (w *deedHouse) with(do func(v *house) error) {
	w.t.Helper()
	if err := withHouse(w.t.Context(), configOf(w.t, w.settings()), w.hsm, func(_ context.Context, v *house) error { return do(v) }); err != nil {
		w.t.Fatal(err)
	}
}

// second does an errand as another person.
func (w *deedHouse) second(e errand) {
	w.t.Helper()
	w.with(func(v *house) error {
		_, err := e.run(w.t.Context(), v.db, v.cfg, "wang")
		return err
	})
}

var (
	longNumber = regexp.MustCompile(`\d{13,}`)
	// left are files that are no part of the picture: the database, the log of
	// the key file, and what was not whole yet when the process died.
	left = regexp.MustCompile(`^a\.db|\.key\.|^\.(writing|master-key)-`)
	// notPictured are tables of how often something was touched, and the
	// operators' log, in which a deed that is done again may stand twice.
	notPictured = map[string]bool{"store_mark": true, "store_schema": true, "bankfile_state": true, "audit": true, "audit_head": true, "merchant_version": true}
	// notCompared are columns that count how often something was changed or
	// locked, checksums, which numbers that were made go into, and the number of the node:
	// a command beside a house takes a free one.
	notCompared = map[string]bool{"change": true, "posts": true, "touched": true, "checksum": true, "node": true}
)

// picture is every row of the house, without times and numbers that were made,
// every file, and what the operators' log says was done; the books must agree.
func (w *deedHouse) picture() (rows []string) {
	w.t.Helper()
	w.with(func(v *house) error {
		if r, err := verifyLedger(w.t.Context(), v.db, v.books, store.Head{}); err != nil || len(r.Problems) > 0 {
			w.t.Errorf("I8, I9: %+v, %v", r, err)
		}
		if _, err := audit.Verify(w.t.Context(), v.db, audit.Head{}); err != nil {
			w.t.Errorf("the operators' log: %v", err)
		}
		return v.db.Read(w.t.Context(), func(tx store.Tx) (err error) {
			rows, err = pictured(tx)
			return err
		})
	})
	err := fs.WalkDir(os.DirFS(w.dir), ".", func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && !left.MatchString(d.Name()) {
			rows = append(rows, "file "+path)
		}
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	// A copy's log may name the folder that it was copied from, beside its own.
	folder := regexp.MustCompile(regexp.QuoteMeta(os.TempDir()) + `/TestCrashDeeds[^/]*/\d+`)
	for i := range rows {
		rows[i] = folder.ReplaceAllString(rows[i], "DIR")
	}
	return rows
}

func pictured(tx store.Tx) (rows []string, err error) {
	text := func(r *store.Rows, s *string) error { return r.Scan(s) }
	names, columns := "select name from sqlite_schema where type = 'table' and name not like 'sqlite%' order by name", "select name, type from pragma_table_info($1) order by cid"
	if tx.Postgres() {
		names, columns = "select table_name::text from information_schema.tables where table_schema = 'public' order by table_name",
			"select column_name::text, data_type::text from information_schema.columns where table_schema = 'public' and table_name = $1 order by ordinal_position"
	}
	found, err := tx.Query(names)
	tables, err := store.All(found, err, text)
	if err != nil {
		return nil, err
	}
	for _, table := range tables {
		if notPictured[table] {
			continue
		}
		found, err := tx.Query(columns, table)
		named, err := store.All(found, err, func(r *store.Rows, c *[2]string) error { return r.Scan(&c[0], &c[1]) })
		if err != nil {
			return nil, err
		}
		row := "'" + table + "'"
		for _, c := range named {
			if notCompared[c[0]] {
				continue
			}
			value := fmt.Sprintf("cast(%q as text)", c[0])
			switch kind := strings.ToLower(c[1]); {
			case kind == "bytea" || kind == "blob": // PostgreSQL, SQLite
				value = fmt.Sprintf("case when %q is null then null else 'blob' end", c[0])
			case strings.HasSuffix(kind, "int") || kind == "integer":
				value = fmt.Sprintf("case when abs(%[1]q) > 1000000000000 then 'N' else %[2]s end", c[0], value)
			}
			row += fmt.Sprintf(" || ' %s=' || coalesce(%s, 'null')", c[0], value)
		}
		found, err = tx.Query("select " + row + " from " + table)
		some, err := store.All(found, err, text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", table, err)
		}
		for _, s := range some {
			rows = append(rows, longNumber.ReplaceAllString(s, "N"))
		}
	}
	found, err = tx.Query("select distinct 'done ' || who || ': ' || op || ' ' || subject from audit where result = $1", audit.Done)
	some, err := store.All(found, err, text)
	for _, s := range some {
		rows = append(rows, longNumber.ReplaceAllString(s, "N"))
	}
	return rows, err
}
