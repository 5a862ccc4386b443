package settlement

import (
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"acquirer/store"
)

// Callback returns the handler for a bank's callbacks: POST {"reference"}. It
// answers 204 when it was heard, 404 for a reference nobody ordered, 503 when
// the bank should call again. Nothing a callback says is believed (Notified).
func (e *Engine) Callback() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var in struct {
			Reference string `json:"reference"`
		}
		if r.Method != http.MethodPost {
			http.Error(w, "POST only", http.StatusMethodNotAllowed)
			return
		}
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 4<<10)).Decode(&in); err != nil || !plainReference(in.Reference) {
			http.Error(w, `want {"reference":"..."}`, http.StatusBadRequest)
			return
		}
		switch err := e.Notified(r.Context(), in.Reference, time.Now()); {
		case err == nil:
			w.WriteHeader(http.StatusNoContent)
		case errors.Is(err, store.ErrNotFound):
			http.Error(w, "unknown reference", http.StatusNotFound)
		default:
			http.Error(w, "try again", http.StatusServiceUnavailable)
		}
	})
}
