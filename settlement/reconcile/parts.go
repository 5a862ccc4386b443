package reconcile

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"acquirer/audit"
	"acquirer/calendar"
	"acquirer/fault"
	"acquirer/settlement"
	"acquirer/store"
)

// A source's day is one file (Part is empty), or as many as its format has:
// UnionPay's ZM comes one per merchant and batch number. Such a day is whole when
// every merchant that sold by the source on it is in a file, or when somebody says
// that no more come (Complete). What comes later is compared then, against what
// waits for it.

// zmName is what a ZM file is called: day, batch number, merchant. Its lines have
// none of them.
var zmName = regexp.MustCompile(`INN(\d{6})(\d*)ZM_(\w+)`)

// named takes from a ZM file's name which file it is and of which day.
func (f *File) named(date calendar.Date) error {
	m := zmName.FindStringSubmatch(f.Name)
	if m == nil {
		return fmt.Errorf("reconcile: %s is not called INNyymmddnnZM_merchant: nobody knows which of the day's files it is", f.Name)
	}
	day, err := calendar.ParseDate("20" + m[1][:2] + "-" + m[1][2:4] + "-" + m[1][4:])
	if err != nil {
		return fmt.Errorf("reconcile: %s: the day in its name: %w", f.Name, err)
	}
	if date != 0 && date != day {
		return fmt.Errorf("reconcile: %s is by its name of %s, and was given as of %s", f.Name, m[1], date)
	}
	f.Part, f.Date = m[0], day
	return nil
}

// oneWay refuses a file that is a day's only one beside some of its parts, and
// the reverse: what both have would be there twice.
func oneWay(tx store.Tx, f *File) error {
	other := "part <> ''"
	if f.Part != "" {
		other = "part = ''"
	}
	var name string
	err := tx.QueryRow("select name from recon_file where source = $1 and date = $2 and state > $3 and "+other+" order by name limit 1", f.Source, f.Date, fileLoading).Scan(&name)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return fmt.Errorf("%w: %w: %s's of %s came as %s, which is of another format", ErrFile, ErrAnother, f.Source, f.Date, name)
}

// missing lists the sources whose files of a date have not all been loaded, with
// the merchants that are in none where some have come.
func (e *Engine) missing(tx store.Tx, date calendar.Date) ([]string, error) {
	type file struct{ source, part string }
	rows, err := tx.Query("select source, part from recon_file where date = $1 and state > $2", date, fileLoading)
	files, err := store.All(rows, err, func(r *store.Rows, f *file) error { return r.Scan(&f.source, &f.part) })
	if err != nil {
		return nil, err
	}
	have := map[string][]string{}
	for _, f := range files {
		have[f.source] = append(have[f.source], f.part)
	}
	var out []string
	for _, s := range e.cfg.Sources {
		parts := have[s.Name]
		switch {
		case len(parts) == 0:
			out = append(out, s.Name)
		case parts[0] != "":
			absent, err := absent(tx, s.Name, date, parts)
			if err != nil {
				return nil, err
			}
			if n := len(absent); n > 0 {
				if n > 5 {
					absent = append(absent[:5:5], fmt.Sprintf("%d more", n-5))
				}
				out = append(out, s.Name+" (ZM of "+strings.Join(absent, ", ")+")")
			}
		}
	}
	return out, nil
}

// absent lists the merchants that sold by a source on a date and have no file: by
// none's name, which may be that of their group, and in none's lines.
func absent(tx store.Tx, source string, date calendar.Date, parts []string) ([]string, error) {
	var said int
	if err := tx.QueryRow("select count(*) from recon_complete where source = $1 and date = $2", source, date).Scan(&said); err != nil || said > 0 {
		return nil, err
	}
	sellers, err := settlement.SellersTx(tx, date, source)
	if err != nil {
		return nil, err
	}
	without := func(have []string) {
		sellers = slices.DeleteFunc(sellers, func(mid string) bool { return slices.Contains(have, mid) })
	}
	var named []string
	for _, p := range parts {
		_, mid, _ := strings.Cut(p, "ZM_")
		named = append(named, mid)
	}
	if without(named); len(sellers) == 0 {
		return nil, nil
	}
	rows, err := tx.Query("select distinct merchant from recon_line where file in (select id from recon_file where source = $1 and date = $2 and state > $3)", source, date, fileLoading)
	inside, err := store.All(rows, err, func(r *store.Rows, mid *string) error { return r.Scan(mid) })
	without(inside)
	return sellers, err
}

// Complete takes a person's word that a source, of which some files of a date have
// come, has no more of them: the date is compared with those, and what no file
// has is short. ErrAction when none has come. It is in the operators' log.
func (e *Engine) Complete(ctx context.Context, date calendar.Date, source string, who Who, now time.Time) error {
	fault.Hit("reconcile.complete.before")
	err := e.db.Write(ctx, func(tx store.Tx) error {
		var files, parts int
		if err := tx.QueryRow("select count(*), cast(coalesce(sum(case when part <> '' then 1 else 0 end), 0) as BIGINT) from recon_file where source = $1 and date = $2 and state > $3", source, date, fileLoading).
			Scan(&files, &parts); err != nil {
			return err
		}
		switch {
		case who.Name == "":
			return fmt.Errorf("%w: say who you are", ErrAction)
		case !e.knows(source):
			return fmt.Errorf("%w: %q is no source here (clearing.sources)", ErrAction, source)
		case files == 0:
			return fmt.Errorf("%w: no file has come of it", ErrAction)
		case parts == 0:
			return nil // one file is its day
		}
		n, err := tx.Exec("insert into recon_complete (source, date, who, said) values ($1,$2,$3,$4) on conflict (source, date) do nothing", source, date, who.Name, now.UnixMicro())
		if err != nil || n == 0 {
			return err
		}
		_, err = audit.Record(tx, audit.Entry{Who: who.Name, From: who.From, Op: "reconcile complete", Subject: source + " " + date.String(), Result: audit.Done})
		return err
	})
	fault.Hit("reconcile.complete.after")
	if err != nil {
		return fmt.Errorf("reconcile: the files of %s for %s: %w", source, date, err)
	}
	return nil
}
