// Package console is the operator's window on the street: approvals and
// declines as they happen, the lines to the issuers, what is owed, the books
// and today's settlement, and every transaction with its steps and its masked
// messages. Pages are made here, on the server, and kept current by one stream
// of server-sent events; they read well without a script too.
//
// It prints receipts, with the cardholder's signature as the terminal took it.
//
// It looks, and changes one thing alone: that a person has dealt with a
// difference between a terminal's batch and the journal. It has no users of its
// own yet, so it listens on a loopback address and nowhere else.
package console
