package issuer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"acquirer/calendar"
	"acquirer/money"
	"acquirer/settlement/clearing"
)

// Handler serves the issuer to other processes:
//
//	GET  /books     every entry, as WriteBooks
//	GET  /totals    the books in numbers
//	GET  /weather   the weather
//	PUT  /weather   changes it: {"delay":1000000,"silent":0.01}, delays in nanoseconds
//	POST /next      orders weather: {"kind":"void","count":2,"storm":"silent"}, a refusal with
//	                {"kind":"refund","storm":"declined","code":"91"}
//	POST /drop      hangs up on every line
//	GET  /clearing  the clearing file of ?date=2026-11-20, NETWORK-CLEAR v1; ?format=zm for ZM,
//	                ?damage=truncated|trailer|encoding spoils it
//	POST /misclear  orders faults of the next clearing file: ["late","fee"]
//	GET  /misclears the faults that its files have
//	POST /dispute   an item of the next error file: {"rrn":"...","kind":"chargeback","reason":"4853","fee":"5.00"};
//	                kinds: retrieval, chargeback, second_chargeback, pre_arbitration, arbitration ("won":true)
//	GET  /errors    the error file since the last one, ZME
//	GET  /healthz   ok
//
// It knows no users: listen on a loopback address.
func (h *Host) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /books", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if err := h.WriteBooks(w); err != nil {
			h.log.Warn("books could not be sent", "error", err)
		}
	})
	mux.HandleFunc("GET /totals", func(w http.ResponseWriter, _ *http.Request) { h.writeJSON(w, h.Totals()) })
	mux.HandleFunc("GET /weather", func(w http.ResponseWriter, _ *http.Request) { h.writeJSON(w, h.Weather()) })
	mux.HandleFunc("PUT /weather", func(w http.ResponseWriter, r *http.Request) {
		var weather Weather
		err := decode(w, r, &weather)
		if err == nil {
			err = h.SetWeather(weather)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		h.writeJSON(w, h.Weather())
	})
	mux.HandleFunc("POST /next", func(w http.ResponseWriter, r *http.Request) {
		var o Order
		err := decode(w, r, &o)
		if err == nil {
			err = h.Next(o)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		h.writeJSON(w, o)
	})
	mux.HandleFunc("POST /drop", func(w http.ResponseWriter, _ *http.Request) { h.DropLines() })
	mux.HandleFunc("GET /clearing", h.serveClearing)
	mux.HandleFunc("POST /misclear", func(w http.ResponseWriter, r *http.Request) {
		var faults []FileFault
		err := decode(w, r, &faults)
		if err == nil {
			err = h.Misclear(faults...)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		h.writeJSON(w, faults)
	})
	mux.HandleFunc("POST /dispute", func(w http.ResponseWriter, r *http.Request) {
		var x struct {
			RRN    string             `json:"rrn"`
			Kind   clearing.ErrorKind `json:"kind"`
			Reason string             `json:"reason"`
			Fee    money.Amount       `json:"fee"`
			Won    bool               `json:"won"`
		}
		err := decode(w, r, &x)
		if err == nil {
			err = h.Dispute(x.RRN, x.Kind, x.Reason, x.Fee, x.Won)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		h.writeJSON(w, x)
	})
	mux.HandleFunc("GET /errors", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/octet-stream")
		if err := h.WriteErrors(w); err != nil {
			h.log.Warn("an error file could not be sent", "error", err)
		}
	})
	mux.HandleFunc("GET /misclears", func(w http.ResponseWriter, _ *http.Request) { h.writeJSON(w, h.Misclears()) })
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	return mux
}

// serveClearing is GET /clearing.
func (h *Host) serveClearing(w http.ResponseWriter, r *http.Request) {
	date, err := calendar.ParseDate(r.FormValue("date"))
	if err != nil {
		http.Error(w, "want ?date=2026-11-20", http.StatusBadRequest)
		return
	}
	var file []byte
	switch r.FormValue("format") {
	case "":
		file, _, err = h.ClearingFile(date)
	case "zm":
		var b bytes.Buffer
		err = h.WriteZM(&b, date)
		file = b.Bytes()
	default:
		http.Error(w, "format is zm, or left out", http.StatusBadRequest)
		return
	}
	if err == nil {
		file, err = Damage(file, r.FormValue("damage"))
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	if _, err := w.Write(file); err != nil {
		h.log.Warn("a clearing file could not be sent", "error", err)
	}
}

// Damage spoils a file: truncated, trailer (its last line), encoding; "" leaves it.
func Damage(file []byte, how string) ([]byte, error) {
	switch {
	case how == "":
		return file, nil
	case len(file) < 2:
		return nil, errors.New("the file is too short to be spoilt")
	case how == "truncated":
		return file[:len(file)*2/3], nil
	case how == "trailer":
		out := bytes.Clone(file)
		if out[len(out)-2]++; out[len(out)-2] > 'f' {
			out[len(out)-2] = '0'
		}
		return out, nil
	case how == "encoding":
		out := bytes.Clone(file)
		out[len(out)/2] = 0xb5
		return out, nil
	}
	return nil, fmt.Errorf("damage %q is none of truncated, trailer, encoding", how)
}

func decode(w http.ResponseWriter, r *http.Request, into any) error {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<16))
	d.DisallowUnknownFields()
	return d.Decode(into)
}

func (h *Host) writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(v); err != nil {
		h.log.Warn("answer could not be sent", "error", err)
	}
}
